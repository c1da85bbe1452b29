//! Runs on Redis as they are made, found and taken over.

use std::sync::LazyLock;

use redis::{Cmd, FromRedisValue, Script, cmd};
use sqlx::Connection;
use sqlx::postgres::PgConnection;

use super::fence;
use super::keys::{self, Keys, of_step};
use super::notes::{Notes, gone};
use super::read::Kept;
use crate::ledger::open::{Draft, Driver, StoredPlan, Taken, driven_by, nothing_to_resume, unfinished_run, waited};
use crate::ledger::runs;
use crate::postgres::error;
use crate::redis::{Address, Link, LinkError};
use crate::run::id::RunRef;
use crate::run::timer::Spent;
use crate::run::{Cause, RunId, RunState, StepIndex};

static CREATE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("create.lua")));
static TAKE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("take.lua")));
static SUPERSEDE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("supersede.lua")));

/// Which database it is, the same by every address that leads there.
const IDENTITY: &str = "SELECT system_identifier::text || '/' || d.oid FROM pg_control_system(), pg_database d \
                        WHERE d.datname = current_database()";
/// The same where the role may not ask for that.
const NAME: &str = "SELECT coalesce(host(inet_server_addr()) || ':' || inet_server_port(), 'local') || '/' || \
                    current_database()";

/// The runs on one Redis.
#[derive(Clone)]
pub struct RedisBook {
    link: Link,
}

impl std::fmt::Debug for RedisBook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("RedisBook").field(&self.label()).finish()
    }
}

impl RedisBook {
    /// Connects.
    ///
    /// # Errors
    /// Redis cannot be reached, or refuses.
    pub async fn open(address: &Address) -> Result<Self, Cause> {
        let link = Link::open(address).await.map_err(|e| {
            e.cause("the run's ledger").hint(
                "is Redis running there? its address is `redis.url` in the plan, --redis, HOWDAH_REDIS or REDIS_URL",
            )
        })?;
        Ok(Self { link })
    }

    /// Where it is: no user, no password.
    #[must_use]
    pub fn label(&self) -> String {
        self.link.address().label()
    }

    pub(super) fn keys(&self, run: RunId) -> Keys {
        Keys::new(self.link.address(), run)
    }

    pub(super) async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Cause> {
        self.link.query(command).await.map_err(|e| e.cause("reading the ledger"))
    }

    /// The runs of the database that `connection` leads to, the newest first.
    pub(super) async fn runs(&self, connection: &mut PgConnection) -> Result<Vec<RunId>, Cause> {
        let key = keys::runs(self.link.address(), &identity(connection).await?);
        let ids: Vec<String> = self.ask(cmd("ZREVRANGE").arg(key).arg(0).arg(-1)).await?;
        Ok(ids.iter().filter_map(|id| id.parse().ok()).map(RunId).collect())
    }

    /// The run that a person means, of the database that `connection` leads to. Without a name: the newest, or the newest
    /// one that is `unfinished`.
    ///
    /// # Errors
    /// None, or several, of that name.
    pub async fn find(
        &self,
        connection: &mut PgConnection,
        named: Option<&RunRef>,
        unfinished: bool,
    ) -> Result<RunId, Cause> {
        let mut found = Vec::new();
        for run in self.runs(connection).await? {
            let fits = match named {
                Some(RunRef::Full(id)) => run == *id,
                Some(RunRef::Suffix(text)) => run.0.simple().to_string().ends_with(text.as_str()),
                None => true,
            };
            if !fits {
                continue;
            }
            let Some(kept) = self.kept(run).await? else { continue };
            if named.is_none() && unfinished && kept.is_ended() {
                continue;
            }
            found.push(run);
            if named.is_none() {
                break;
            }
        }
        match (found.as_slice(), named) {
            ([], Some(_)) => Err(self.nothing("there is no such run of this database")),
            ([], None) => Err(self.nothing("there is no run of this database that fits")),
            ([first, ..], None) | ([first], Some(_)) => Ok(*first),
            ([first, second, ..], Some(_)) => {
                Err(Cause::usage(format!("several runs end like that: {first} and {second}"))
                    .hint("give more of the id"))
            }
        }
    }

    fn nothing(&self, what: &str) -> Cause {
        Cause::usage(format!("{what} on Redis ({})", self.label()))
            .hint("list them: howdah status --redis URL")
            .hint("if there was one, Redis was flushed or has lost it: begin anew with howdah run PLAN --new")
    }

    /// Makes a run, and locks it. `connection` must stay open as long as the run is driven: its session holds the lock.
    ///
    /// # Errors
    /// A run of the same plan is being driven, or stands unfinished and `anew` is not set.
    pub async fn create(
        &self,
        connection: &mut PgConnection,
        draft: &Draft<'_>,
        driver: &Driver,
        anew: bool,
    ) -> Result<Taken, Cause> {
        let failed = |e: sqlx::Error| error::cause("taking the run", &e);
        let database = identity(connection).await?;
        let mut tx = connection.begin().await.map_err(failed)?;
        // Two `run` of one plan at the same moment: the second waits here, and then sees the first.
        sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('howdah run ' || $1, 0))")
            .bind(draft.name)
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
        let mut unfinished = Vec::new();
        for run in self.runs(&mut tx).await? {
            let Some(kept) = self.kept(run).await?.filter(|kept| kept.text("plan_name") == draft.name) else {
                continue;
            };
            if kept.is_ended() {
                continue;
            }
            if runs::is_driven(&mut tx, run).await.map_err(failed)? {
                return Err(self.driven(run, &kept).await);
            }
            if !anew {
                let cause = unfinished_run(draft.name, run, kept.text("state"));
                return Err(cause.hint("its ledger lies on Redis: resume it with --plan PLAN, or with --redis URL"));
            }
            unfinished.push(run);
        }
        for run in unfinished {
            // A driver of it may live without its lock, cut off: its next batch finds its epoch gone.
            fence::alone(&mut tx, run).await.map_err(failed)?;
            self.script(&SUPERSEDE, &[self.keys(run).run()], &[]).await?;
        }
        sqlx::query("SELECT pg_advisory_lock($1)")
            .bind(draft.run.advisory_key())
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
        let notes = self.notes(draft.run, 1);
        let words = words(draft, driver, &notes.token)?;
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let (steps, runs) = (notes.keys.steps(), keys::runs(self.link.address(), &database));
        let made = self.script(&CREATE, &[notes.keys.run(), &steps, &runs], &words).await?;
        let created_at = made.parse().ok().and_then(chrono::DateTime::from_timestamp_millis);
        let created_at = created_at.ok_or_else(|| Cause::bug(format!("run {} is on Redis already", draft.run)))?;
        tx.commit().await.map_err(failed)?;
        let count = u32::try_from(draft.steps.len()).unwrap_or(u32::MAX);
        Ok(Taken {
            run: draft.run,
            epoch: 1,
            created_at,
            spent: Spent::default(),
            waited: Vec::new(),
            set_aside: 0,
            steps: self.steps(&notes.keys, count).await?,
            resumed: false,
            notes: Some(notes),
        })
    }

    /// Takes over a run that nobody drives, and raises its epoch.
    ///
    /// # Errors
    /// Somebody drives it: host, pid and age of the heartbeat. It has ended well. Redis has lost it.
    pub async fn resume(&self, connection: &mut PgConnection, run: RunId, driver: &Driver) -> Result<Taken, Cause> {
        let failed = |e: sqlx::Error| error::cause("taking the run over", &e);
        let locked = runs::try_lock(connection, run).await.map_err(failed)?;
        let kept = self.kept(run).await?.ok_or_else(|| gone(run, &self.label()))?;
        if !locked {
            return Err(self.driven(run, &kept).await);
        }
        let name = kept.text("plan_name");
        let mut tx = connection.begin().await.map_err(failed)?;
        // Waits for a batch of the former driver that is about to commit.
        fence::alone(&mut tx, run).await.map_err(failed)?;
        let mut notes = self.notes(run, 0);
        let pid = driver.pid.to_string();
        let words = ["token", &notes.token, "driver_host", &driver.host, "driver_pid", &pid, "driver_version", VERSION];
        let answer = self.script(&TAKE, &[notes.keys.run()], &words).await?;
        notes.epoch = match answer.as_str() {
            "gone" => return Err(gone(run, &self.label())),
            state @ ("done" | "superseded") => return Err(nothing_to_resume(name, run, state)),
            epoch => epoch.parse().map_err(|_| Cause::bug(format!("`{epoch}` is no epoch")))?,
        };
        tx.commit().await.map_err(failed)?;
        let steps = self.steps(&notes.keys, kept.steps()).await?;
        let mut set_aside = 0;
        for step in (0..kept.steps()).map(StepIndex) {
            set_aside += self.ask::<u64>(cmd("HLEN").arg(notes.keys.aside(step))).await?;
        }
        Ok(Taken {
            run,
            epoch: notes.epoch,
            created_at: kept.moment("created_at").unwrap_or_default(),
            spent: kept.spent(),
            waited: waited(&serde_json::from_str(kept.text("waited")).unwrap_or_default()),
            set_aside,
            steps,
            resumed: true,
            notes: Some(notes),
        })
    }

    /// The plan that a run was made from.
    ///
    /// # Errors
    /// Redis cannot be asked, or has lost the run.
    pub async fn stored_plan(&self, run: RunId) -> Result<StoredPlan, Cause> {
        let kept = self.kept(run).await?.ok_or_else(|| gone(run, &self.label()))?;
        Ok(StoredPlan {
            name: kept.text("plan_name").to_owned(),
            path: kept.maybe("plan_path").map(str::to_owned),
            source: kept.text("plan_source").to_owned(),
        })
    }

    /// What Redis may forget of what it is told, for the operator.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn advice(&self) -> Result<Vec<String>, Cause> {
        let label = self.label();
        let ask = async |name: &str| {
            let answer: Result<Vec<String>, LinkError> = self.link.query(cmd("CONFIG").arg("GET").arg(name)).await;
            match answer {
                Ok(answer) => Ok(answer.into_iter().nth(1)),
                // A managed Redis keeps its settings to itself.
                Err(LinkError::Refused { .. }) => Ok(None),
                Err(away) => Err(away.cause("asking for Redis' settings")),
            }
        };
        let (aof, sync) = (ask("appendonly").await?, ask("appendfsync").await?);
        let policy = ask("maxmemory-policy").await?;
        Ok(advice(&label, aof.as_deref(), sync.as_deref(), policy.as_deref()))
    }

    fn notes(&self, run: RunId, epoch: i64) -> Notes {
        let token = uuid::Uuid::now_v7().to_string();
        Notes { link: self.link.clone(), keys: self.keys(run), run, epoch, token }
    }

    async fn driven(&self, run: RunId, kept: &Kept) -> Cause {
        let age = self.now().await.map_or_else(|_| std::time::Duration::ZERO, |now| kept.age(now));
        driven_by(kept.text("plan_name"), run, kept.driver(), age)
    }

    async fn script(&self, script: &Script, keys: &[&str], words: &[&str]) -> Result<String, Cause> {
        self.link.script(script, keys, words).await.map_err(|e| e.cause("writing the ledger"))
    }
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What a crash of Redis may cost, by its settings. `None`: it does not tell.
fn advice(label: &str, aof: Option<&str>, sync: Option<&str>, policy: Option<&str>) -> Vec<String> {
    let mut advice = Vec::new();
    match (aof, sync) {
        (None, _) => advice.push(format!(
            "Redis ({label}) does not tell its settings: see that `appendonly` is on, or a crash of it loses cursors"
        )),
        (Some("yes"), Some("no")) => advice.push(format!(
            "Redis ({label}) has `appendfsync no`: a crash of its host loses up to half a minute of cursors, and those \
             batches run again; set `appendfsync everysec`"
        )),
        (Some("yes"), _) => {}
        (Some(_), _) => advice.push(format!(
            "Redis ({label}) has `appendonly` off: a crash of Redis loses cursors, and the run begins anew from what it \
             kept; switch it on: CONFIG SET appendonly yes"
        )),
    }
    if let Some(policy) = policy.filter(|policy| *policy != "noeviction" && !policy.starts_with("volatile")) {
        advice.push(format!(
            "Redis ({label}) has `maxmemory-policy {policy}`: it may throw the run away when memory is short; set \
             `noeviction`"
        ));
    }
    advice
}

/// A run that is to be made, as the script takes it.
fn words(draft: &Draft<'_>, driver: &Driver, token: &str) -> Result<Vec<String>, Cause> {
    let detail = serde_json::to_string(&RunState::Starting).map_err(|e| Cause::bug(e.to_string()))?;
    let plan = draft.plan;
    let mut own = vec![
        ("plan_name", draft.name.to_owned()),
        ("plan_source", plan.source.redacted()),
        ("fingerprint", plan.fingerprint()),
        ("state", "starting".to_owned()),
        ("detail", detail),
        ("epoch", "1".to_owned()),
        ("token", token.to_owned()),
        ("steps", draft.steps.len().to_string()),
        ("driver_host", driver.host.clone()),
        ("driver_pid", driver.pid.to_string()),
        ("driver_version", VERSION.to_owned()),
    ];
    if let Some(path) = &plan.source.path {
        own.push(("plan_path", path.display().to_string()));
    }
    let mut words = vec![draft.run.to_string(), (own.len() * 2).to_string()];
    words.extend(own.into_iter().flat_map(|(field, value)| [field.to_owned(), value]));
    for (index, (name, kind, fingerprint)) in (0..).map(StepIndex).zip(&draft.steps) {
        let fields = [("name", name.as_str()), ("kind", kind), ("fingerprint", fingerprint), ("state", "waiting")];
        words.extend(fields.into_iter().flat_map(|(field, value)| [of_step(index, field), value.to_owned()]));
    }
    Ok(words)
}

/// Which database a connection leads to.
async fn identity(connection: &mut PgConnection) -> Result<String, Cause> {
    let asked = |e: sqlx::Error| error::cause("asking which database it is", &e);
    let may: bool = sqlx::query_scalar("SELECT has_function_privilege('pg_control_system()', 'EXECUTE')")
        .fetch_one(&mut *connection)
        .await
        .map_err(asked)?;
    let sql = if may { IDENTITY } else { NAME };
    sqlx::query_scalar(sql).fetch_one(connection).await.map_err(asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_redis_may_forget_is_told() {
        let table = [
            (Some("yes"), Some("everysec"), Some("noeviction"), vec![]),
            (Some("yes"), Some("always"), None, vec![]),
            (Some("no"), Some("everysec"), Some("volatile-lru"), vec!["`appendonly` off"]),
            (Some("yes"), Some("no"), None, vec!["`appendfsync no`"]),
            (None, None, Some("allkeys-lru"), vec!["does not tell", "allkeys-lru"]),
        ];
        for (aof, sync, policy, says) in table {
            let advice = advice("db", aof, sync, policy);
            assert_eq!(advice.len(), says.len(), "{advice:?}");
            assert!(advice.iter().zip(&says).all(|(advice, says)| advice.contains(says)), "{advice:?}");
        }
    }
}
