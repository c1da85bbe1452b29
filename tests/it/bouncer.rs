//! Behind PgBouncer: in session mode it works, in transaction mode it says why not and what to set.

use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection};

use crate::support::{DEADLINE, Lab};

/// A PgBouncer of the test's own. Dropping it ends it.
struct Bouncer {
    child: Child,
    url: String,
}

impl Bouncer {
    /// In front of the lab's server, which is reached over TCP.
    async fn before(lab: &Lab, mode: &str) -> Self {
        let server: PgConnectOptions = lab.url.parse().expect("a URL");
        // Free a moment ago. It asks for no password and so needs no list of users; the server does.
        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
        let directory = lab.server.directory();
        let file = directory.join("pgbouncer.ini");
        let text = format!(
            "[databases]\npostgres = host=127.0.0.1 port={} user=demo password=secret dbname=postgres\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n\
             pool_mode = {mode}\nignore_startup_parameters = extra_float_digits\nmax_client_conn = 100\n\
             default_pool_size = 20\n",
            server.get_port()
        );
        std::fs::write(&file, text).expect("a file");
        // Like the server it refuses to be root: it is whoever the server is.
        let owner = std::fs::metadata(directory.join("data")).expect("the server's directory");
        let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
        let mut command = Command::new("pgbouncer");
        command.env("PATH", path).arg("-q").arg(&file).current_dir(directory);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if nix::unistd::Uid::effective().is_root() {
            std::os::unix::fs::chown(&file, Some(owner.uid()), Some(owner.gid())).expect("a file of its own");
            command.gid(owner.gid()).uid(owner.uid());
        }
        let child = command.spawn().expect("PgBouncer: install `pgbouncer`, or run tests/run, which does");
        let url = format!("postgresql://demo@127.0.0.1:{port}/postgres?sslmode=disable");
        let bouncer = Self { child, url };
        let end = Instant::now() + DEADLINE;
        loop {
            let options: PgConnectOptions = bouncer.url.parse().expect("a URL");
            match options.disable_statement_logging().connect().await {
                Ok(connection) => {
                    let _ = PgConnection::close(connection).await;
                    return bouncer;
                }
                Err(e) => assert!(Instant::now() < end, "PgBouncer does not answer: {e}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn plan_of(database: &str) -> String {
    format!(
        r#"
name = "pooled"
[database]
{database}
[limits]
workers = 2
batch = {{ start = 100, min = 100, max = 100 }}
[[step]]
name = "items"
backfill = "items"
set = {{ n = "n + 1" }}
where = "n = 0"
"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_in_transaction_mode_is_refused_with_the_reason_and_the_key_to_set() {
    let lab = Lab::over_tcp("secret").await;
    lab.items(5000).await;
    let bouncer = Bouncer::before(&lab, "transaction").await;
    let plan = lab.plan("pooled.toml", &plan_of(&format!("url = \"{}\"", bouncer.url)));
    let plan = plan.to_str().expect("a path");
    let ended = lab.howdah(&["run", plan, "--headless"]).without_url().run();
    assert!(matches!(ended.code(), Some(1 | 2)), "{:?}\n{}", ended.code(), ended.stderr());
    let _ = ended.expect_words(&["transaction", "pooler", "database.control"]);
    assert_eq!(lab.number("SELECT sum(n)::bigint FROM items").await, 0, "nothing was changed");
    let _ = lab.howdah(&["check", plan]).without_url().run().expect_code(2).expect_words(&[
        "error[pooler-shares-sessions] 127.0.0.1",
        "pool_mode = session",
        "1 error; `howdah run` refuses the plan",
    ]);

    // With the server's own address beside it the run works.
    lab.plan("pooled.toml", &plan_of(&format!("url = \"{}\"\ncontrol = \"{}\"", bouncer.url, lab.url)));
    lab.howdah(&["check", plan]).without_url().run().expect_code(0);
    lab.howdah(&["run", plan, "--headless"]).without_url().run().expect_code(0);
    assert_eq!(lab.number("SELECT count(*) FROM items WHERE n <> 1").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_in_session_mode_works() {
    let lab = Lab::over_tcp("secret").await;
    lab.items(5000).await;
    let bouncer = Bouncer::before(&lab, "session").await;
    let plan = lab.plan("pooled.toml", &plan_of(&format!("url = \"{}\"", bouncer.url)));
    lab.howdah(&["run", plan.to_str().expect("a path"), "--headless"]).without_url().run().expect_code(0);
    assert_eq!(lab.number("SELECT count(*) FROM items WHERE n <> 1").await, 0);
}
