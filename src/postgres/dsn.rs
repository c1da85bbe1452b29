//! Where the database is, as people write it: a URL, libpq's `key=value` words, or a bare database name.
//!
//! sqlx reads URLs and the `PG*` variables, but not all that libpq reads. What it would ignore is done here
//! (`connect_timeout`, `key=value`, the login name) or refused with the reason (services, several hosts, unknown words).

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::PgConnectOptions;

use crate::run::Cause;

/// The environment, asked by name.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A database to connect to. Prints without the password.
#[derive(Clone)]
pub struct Target {
    options: PgConnectOptions,
    /// How long a connection may take to open, where the address or `PGCONNECT_TIMEOUT` says so.
    pub connect_timeout: Option<Duration>,
    /// Where the address came from, for messages: `--database`, `the plan`, `DATABASE_URL`, `PG* variables`.
    pub origin: &'static str,
}

/// The words that sqlx understands in a URL's query, as libpq names them.
const KNOWN: [&str; 13] = [
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
    "connect_timeout",
];

impl Target {
    /// The address by libpq's manners: the flag, else the plan, else `DATABASE_URL`, else the `PG*` variables; the
    /// password from `PGPASSWORD` or `~/.pgpass` where the address has none.
    ///
    /// # Errors
    /// A usage [`Cause`] that says which address is wrong, and never repeats it (it may hold a password).
    pub fn resolve(flag: Option<&str>, plan: Option<&SecretString>, env: Env<'_>) -> Result<Self, Cause> {
        let from_env = env("DATABASE_URL").filter(|url| !url.is_empty());
        let (origin, address) = match (flag, plan, &from_env) {
            (Some(flag), _, _) => ("--database", flag),
            (None, Some(url), _) => ("`database.url` of the plan", url.expose_secret()),
            (None, None, Some(url)) => ("DATABASE_URL", url.as_str()),
            (None, None, None) => ("the PG* variables", ""),
        };
        Self::parse(origin, address, env)
    }

    /// The address that a step of the plan names; `origin` says where it stands: "`from` of the step".
    ///
    /// # Errors
    /// As [`Target::resolve`].
    pub fn of_step(origin: &'static str, url: &SecretString, env: Env<'_>) -> Result<Self, Cause> {
        Self::parse(origin, url.expose_secret(), env)
    }

    fn parse(origin: &'static str, address: &str, env: Env<'_>) -> Result<Self, Cause> {
        refuse_services(origin, env)?;
        let url = as_url(origin, address)?;
        let mut connect_timeout = env("PGCONNECT_TIMEOUT").and_then(|text| seconds(&text));
        let mut parsed = url::Url::parse(&url)
            .map_err(|error| Cause::usage(format!("{origin} is not a database address: {error}")).hint(EXAMPLE))?;
        let mut kept = Vec::new();
        for (name, value) in parsed.query_pairs() {
            if !KNOWN.contains(&name.as_ref()) {
                return Err(unknown_word(origin, &name));
            }
            if name == "connect_timeout" {
                connect_timeout = seconds(&value);
            } else {
                kept.push((name.into_owned(), value.into_owned()));
            }
            if matches!(kept.last(), Some((name, value)) if name == "host" && value.contains(',')) {
                return Err(several_hosts(origin));
            }
        }
        if kept.is_empty() {
            parsed.set_query(None);
        } else {
            parsed.query_pairs_mut().clear().extend_pairs(&kept);
        }
        let names_user = !parsed.username().is_empty() || kept.iter().any(|(name, _)| name == "user");
        let mut options: PgConnectOptions = parsed.as_str().parse().map_err(|error: sqlx::Error| {
            let text = match error {
                sqlx::Error::Configuration(inner) => inner.to_string(),
                other => other.to_string(),
            };
            Cause::usage(format!("{origin} is not a database address: {text}")).hint(EXAMPLE)
        })?;
        if !names_user && env("PGUSER").is_none() {
            // libpq's default is the login name; whoami's, in sqlx, may be a placeholder.
            let login = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten();
            if let Some(login) = login {
                options = options.username(&login.name);
            }
        }
        Ok(Self { options, connect_timeout, origin })
    }

    /// What sqlx connects with. Never print it with `{:?}`: it shows the password.
    #[must_use]
    pub fn options(&self) -> &PgConnectOptions {
        &self.options
    }

    /// `database@host:port`: no user, no password.
    #[must_use]
    pub fn label(&self) -> String {
        let database = self.options.get_database().unwrap_or_else(|| self.options.get_username());
        format!("{database}@{}", self.server())
    }

    /// `host:port`, or the socket's path.
    #[must_use]
    pub fn server(&self) -> String {
        match self.options.get_socket() {
            Some(path) => format!("{}:{}", path.display(), self.options.get_port()),
            None => format!("{}:{}", self.options.get_host(), self.options.get_port()),
        }
    }
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Target({} from {})", self.label(), self.origin)
    }
}

const EXAMPLE: &str =
    "write it like postgres://user@host:5432/database (the password may come from ~/.pgpass or PGPASSWORD)";

fn refuse_services(origin: &str, env: Env<'_>) -> Result<(), Cause> {
    if origin == "the PG* variables" && env("PGSERVICE").is_some_and(|service| !service.is_empty()) {
        return Err(Cause::usage("PGSERVICE is set, and service files are not supported")
            .hint("give the address with --database, or unset PGSERVICE"));
    }
    Ok(())
}

/// Any of libpq's three ways of writing, as a URL.
fn as_url(origin: &str, address: &str) -> Result<String, Cause> {
    let address = address.trim();
    if address.starts_with("postgres://") || address.starts_with("postgresql://") {
        let authority = address.split_once("://").map_or("", |(_, rest)| rest.split(['/', '?']).next().unwrap_or(""));
        if authority.rsplit('@').next().is_some_and(|hosts| hosts.contains(',')) {
            return Err(several_hosts(origin));
        }
        return Ok(with_host(address));
    }
    if address.contains("://") {
        return Err(
            Cause::usage(format!("{origin} is not a PostgreSQL address: it must begin with postgres://")).hint(EXAMPLE)
        );
    }
    let pairs = if address.contains('=') {
        words(address)
            .ok_or_else(|| Cause::usage(format!("{origin}: the key=value words cannot be read")).hint(EXAMPLE))?
    } else if address.is_empty() {
        return Ok("postgres://".to_owned());
    } else {
        vec![("dbname".to_owned(), address.to_owned())]
    };
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in pairs {
        if name == "service" {
            return Err(Cause::usage(format!("{origin} names a service, and service files are not supported"))
                .hint("write host, port and dbname out"));
        }
        query.append_pair(&name, &value);
    }
    Ok(format!("postgres://?{}", query.finish()))
}

/// `postgres://user@/name`, which libpq takes and a URL parser does not: the user moves into the query.
fn with_host(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else { return address.to_owned() };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let Some(who) = rest[..end].strip_suffix('@') else { return address.to_owned() };
    let (user, password) = who.split_once(':').unwrap_or((who, ""));
    let joint = if rest[end..].contains('?') { '&' } else { '?' };
    // Already percent-encoded; only `+` means something else in a query.
    let mut moved = format!("{scheme}://{}{joint}user={}", &rest[end..], user.replace('+', "%2B"));
    if !password.is_empty() {
        moved.push_str("&password=");
        moved.push_str(&password.replace('+', "%2B").replace('&', "%26"));
    }
    moved
}

/// libpq's `key = 'value'` words. `None` where a quote does not close or a word has no `=`.
fn words(text: &str) -> Option<Vec<(String, String)>> {
    let mut chars = text.chars().peekable();
    let mut pairs = Vec::new();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.peek().is_none() {
            return Some(pairs);
        }
        let mut name = String::new();
        while let Some(c) = chars.next_if(|c| *c != '=' && !c.is_whitespace()) {
            name.push(c);
        }
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        chars.next_if_eq(&'=')?;
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let quoted = chars.next_if_eq(&'\'').is_some();
        let mut value = String::new();
        loop {
            match chars.next() {
                Some('\\') => value.push(chars.next()?),
                Some('\'') if quoted => break,
                Some(c) if !quoted && c.is_whitespace() => break,
                Some(c) => value.push(c),
                None if quoted => return None,
                None => break,
            }
        }
        pairs.push((name, value));
    }
}

fn seconds(text: &str) -> Option<Duration> {
    text.trim().parse::<u64>().ok().filter(|n| *n > 0).map(Duration::from_secs)
}

fn several_hosts(origin: &str) -> Cause {
    Cause::usage(format!("{origin} names several hosts, which is not supported"))
        .hint("name the primary: a migration must run where rows can be written")
}

fn unknown_word(origin: &str, name: &str) -> Cause {
    let near = KNOWN.iter().map(|known| (strsim::jaro_winkler(known, name), *known)).max_by(|a, b| a.0.total_cmp(&b.0));
    let cause = Cause::usage(format!(
        "{origin}: `{}` is not a word of an address that howdah knows",
        crate::run::text::clean(name)
    ));
    match near {
        Some((score, known)) if score > 0.8 => cause.hint(format!("did you mean `{known}`?")),
        _ => cause.hint(format!("known are: {}", KNOWN.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none(_: &str) -> Option<String> {
        None
    }

    fn parse(address: &str) -> Result<Target, Cause> {
        Target::resolve(Some(address), None, &none)
    }

    #[test]
    fn all_three_ways_of_writing_an_address_are_read() {
        for address in [
            "postgres://ann@db1:5433/shop",
            "postgresql://ann@db1:5433/shop?sslmode=disable&connect_timeout=7",
            "host=db1 port=5433 user=ann dbname=shop",
            "host = 'db1' port=5433 user=ann dbname='shop'",
        ] {
            let target = parse(address).unwrap_or_else(|cause| panic!("{address}: {cause:?}"));
            assert_eq!(target.label(), "shop@db1:5433", "{address}");
            assert_eq!(target.options().get_username(), "ann");
        }
        assert_eq!(parse("shop").map(|t| t.options().get_database().map(str::to_owned)), Ok(Some("shop".into())));
        let socket = parse("postgres://ann@/shop?host=%2Ftmp%2Fx&port=6000").map(|t| t.label());
        assert_eq!(socket, Ok("shop@/tmp/x:6000".to_owned()));
        assert_eq!(parse("host=/tmp/x user=a dbname=b").map(|t| t.server()), Ok("/tmp/x:5432".to_owned()));
    }

    #[test]
    fn the_flag_wins_over_the_plan_and_the_plan_over_the_environment() {
        let env = |name: &str| (name == "DATABASE_URL").then(|| "postgres://e@env/e".to_owned());
        let plan = SecretString::from("postgres://p@plan/p");
        let label =
            |flag: Option<&str>, plan: Option<&SecretString>| Target::resolve(flag, plan, &env).map(|t| t.label());
        assert_eq!(label(Some("postgres://f@flag/f"), Some(&plan)), Ok("f@flag:5432".to_owned()));
        assert_eq!(label(None, Some(&plan)), Ok("p@plan:5432".to_owned()));
        assert_eq!(label(None, None), Ok("e@env:5432".to_owned()));
    }

    #[test]
    fn what_would_be_ignored_is_refused_or_done() {
        assert_eq!(
            parse("postgres://a@b/c?connect_timeout=7").map(|t| t.connect_timeout),
            Ok(Some(Duration::from_secs(7)))
        );
        for (address, words) in [
            ("postgres://a@b,c/d", "several hosts"),
            ("host=b,c dbname=d", "several hosts"),
            ("service=prod dbname=x", "service"),
            ("postgres://a@b/c?sslmod=require", "sslmod"),
            ("mysql://a@b/c", "postgres://"),
            ("host='open", "cannot be read"),
            ("postgres://a@b:port/c", "not a database address"),
            ("postgres://a@b/c?sslmode=sometimes", "not a database address"),
        ] {
            let message = parse(address).map(|t| t.label()).map_err(|cause| cause.message);
            assert!(message.as_ref().is_err_and(|m| m.contains(words)), "{address}: {message:?}");
        }
    }

    #[test]
    fn a_password_is_never_printed() {
        let target = parse("postgres://ann:hunter2@db1/shop").unwrap_or_else(|cause| panic!("{cause:?}"));
        assert!(!format!("{target:?} {}", target.label()).contains("hunter2"));
        for bad in ["postgres://ann:hunter2@db1/shop?x=1", "postgres://ann:hunter2@db1:x/shop", "ftp://ann:hunter2@x"] {
            let cause = parse(bad).err().map(|cause| format!("{cause:?}")).unwrap_or_default();
            assert!(!cause.is_empty() && !cause.contains("hunter2"), "{cause}");
        }
    }
}
