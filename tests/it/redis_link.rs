//! Every way to a Redis: TLS, ACL users, sentinels, a cluster; and what is said of one that is away.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use howdah::plan::model::RedisOptions;
use howdah::redis::{Address, Link, LinkError};
use howdah::sandbox::redis::{PASSWORD, RedisServer};

use crate::support::DEADLINE;

fn address(url: &str, options: &RedisOptions) -> Address {
    Address::resolve(Some(url), Some(options), &|_| None).expect("an address").expect("one is named")
}

fn plain(url: &str) -> Address {
    address(url, &RedisOptions::default())
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port()
}

async fn answers(link: &Link) -> Result<String, LinkError> {
    link.query(&redis::cmd("PING")).await
}

/// Waits until `link` answers; whatever it says before.
async fn until_answers(link: &Link) -> Duration {
    let began = Instant::now();
    loop {
        match answers(link).await {
            Ok(_) => return began.elapsed(),
            Err(e) => assert!(began.elapsed() < DEADLINE, "it does not come back: {e}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn set_get(link: &Link, key: &str) {
    let key = link.address().key(key);
    link.query::<()>(redis::cmd("SET").arg(&key).arg("x")).await.expect("written");
    let script = redis::Script::new("return redis.call('GET', KEYS[1]) .. ARGV[1]");
    for _ in 0..2 {
        assert_eq!(link.script::<String>(&script, &[&key], &["!"]).await.expect("an answer"), "x!");
    }
    let mut pipe = redis::pipe();
    pipe.cmd("GET").arg(&key).cmd("EXISTS").arg(&key);
    assert_eq!(link.pipeline::<(String, u32)>(&pipe).await.expect("answers"), ("x".to_owned(), 1));
    let (mut cursor, mut found) = (0, Vec::new());
    loop {
        let (next, keys) = link.scan(cursor, &link.address().key("*")).await.expect("keys");
        found.extend(keys);
        cursor = next;
        if cursor == 0 {
            break;
        }
    }
    assert!(found.contains(&key), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_dies_is_left_alone_and_found_again() {
    let mut server = RedisServer::start(&[]).expect("install redis-server");
    let link = Link::open(&plain(&server.url())).await.expect("a link");
    set_get(&link, "k").await;
    server.kill();
    let e = answers(&link).await.expect_err("it is dead");
    assert!(e.is_away(), "{e}");
    let began = Instant::now();
    for _ in 0..10_000 {
        assert!(answers(&link).await.expect_err("it is dead").is_away());
    }
    let took = began.elapsed();
    assert!(took < Duration::from_secs(5), "10,000 refusals took {took:?}");
    server.restart().expect("it comes back");
    let took = until_answers(&link).await;
    assert!(took < Duration::from_secs(15), "{took:?}");
    // A break that is over before anybody asks costs one answer.
    server.restart().expect("it comes back");
    let first = answers(&link).await;
    assert!(first.is_ok() || answers(&link).await.is_ok(), "{first:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_says_nothing_holds_nobody_longer_than_its_timeout() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("an address").port();
    let options = RedisOptions { timeout: Duration::from_millis(300), ..RedisOptions::default() };
    let link = Link::lazy(&address(&format!("redis://127.0.0.1:{port}"), &options));
    let began = Instant::now();
    let asked: Vec<_> = (0..50).map(|_| answers(&link)).collect();
    for answer in futures_util::future::join_all(asked).await {
        assert!(answer.expect_err("nobody speaks").is_away());
    }
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(3), "{took:?}");
    assert!(answers(&link).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acl_user_reaches_its_own_keys_and_no_error_tells_a_password() {
    let server = RedisServer::start(&[]).expect("install redis-server");
    let link = Link::open(&plain(&server.url())).await.expect("a link");
    let mut acl = redis::cmd("ACL");
    acl.arg("SETUSER").arg("ann").arg("on").arg(">anns-secret").arg("~howdah:*").arg("+@all").arg("-@dangerous");
    link.query::<()>(&acl).await.expect("a user");
    let port = server.port();
    let ann = Link::open(&plain(&format!("redis://ann:anns-secret@127.0.0.1:{port}"))).await.expect("a link");
    set_get(&ann, "k").await;
    let e = ann.query::<()>(redis::cmd("SET").arg("elsewhere").arg("x")).await.expect_err("not hers");
    assert!(!e.is_away() && e.to_string().contains("NOPERM"), "{e}");
    assert!(e.cause("writing").hints[0].contains("ACL"), "{:?}", e.cause("writing"));

    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "anns-secret\n").expect("written");
    let options = RedisOptions { password_file: Some(file.path().to_owned()), ..RedisOptions::default() };
    let by_file = Link::open(&address(&format!("redis://ann@127.0.0.1:{port}"), &options)).await.expect("a link");
    assert!(answers(&by_file).await.is_ok());

    for (url, secret) in [
        (format!("redis://ann:wrong-secret@127.0.0.1:{port}"), "wrong-secret"),
        (format!("redis://:wrong-secret@127.0.0.1:{port}"), "wrong-secret"),
        (format!("redis://127.0.0.1:{port}"), PASSWORD),
        (format!("redis://:{PASSWORD}@127.0.0.1:{}", free_port()), PASSWORD),
    ] {
        let address = plain(&url);
        let e = Link::open(&address).await.expect_err(&url);
        let cause = e.cause("connecting");
        let said = format!("{e} {e:?} {cause:?} {address:?} {:?}", Link::lazy(&address));
        assert!(!said.contains(secret), "{said}");
        assert_eq!(e.is_away(), url.contains(PASSWORD), "{e}");
        assert!(e.is_away() || cause.hints[0].contains("HOWDAH_REDIS_PASSWORD"), "{said}");
    }
}

/// A key and a certificate, and the authority that signed it: `ca.pem`, `server.pem`, `server.key`.
fn certificates(folder: &Path) {
    let openssl = |arguments: &str| {
        let status = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("openssl");
        assert!(status.success(), "openssl {arguments}");
    };
    std::fs::write(folder.join("ext"), "subjectAltName=IP:127.0.0.1,DNS:localhost\n").expect("written");
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    openssl(&format!("req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=lab"));
    openssl(&format!("req {key} -keyout server.key -out server.csr -subj /CN=localhost"));
    openssl("x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out server.pem");
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_checked_against_ones_own_authority() {
    let folder = tempfile::tempdir().expect("a folder");
    certificates(folder.path());
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let (port, cert, key, ca) = (free_port(), path("server.pem"), path("server.key"), path("ca.pem"));
    let tls = ["--tls-port", &port.to_string(), "--tls-cert-file", &cert, "--tls-key-file", &key];
    let server = RedisServer::start(&[&tls[..], &["--tls-ca-cert-file", &ca, "--tls-auth-clients", "no"]].concat());
    let _server = server.expect("a redis-server with TLS");
    let url = format!("rediss://:{PASSWORD}@localhost:{port}/1");
    let options = RedisOptions { ca: Some(ca.clone().into()), ..RedisOptions::default() };
    set_get(&Link::open(&address(&url, &options)).await.expect("a link"), "k").await;
    let env = |name: &str| (name == "HOWDAH_REDIS_CA").then(|| ca.clone());
    let by_env = Address::resolve(Some(&url), None, &env).expect("an address").expect("one");
    assert!(Link::open(&by_env).await.is_ok());
    let e = Link::open(&plain(&url)).await.expect_err("nobody knows that authority");
    assert!(e.cause("x").hints[0].contains("HOWDAH_REDIS_CA"), "{e}");
    let wrong = RedisOptions { ca: Some(path("none.pem").into()), ..RedisOptions::default() };
    let e = Link::open(&address(&url, &wrong)).await.expect_err("no such file");
    assert!(!e.is_away() && e.to_string().contains("none.pem"), "{e}");
    let plain_to_tls = Link::open(&plain(&url.replace("rediss", "redis"))).await.expect_err("it speaks TLS only");
    assert!(!plain_to_tls.to_string().contains(PASSWORD), "{plain_to_tls}");
    // What the queue is given leads there as well.
    let options = address(&url, &options).bullmq().expect("options");
    let queue = bullmq::redis_connection::RedisConnection::new_managed_only(&options).await;
    assert!(queue.is_ok(), "{:?}", queue.err().map(|e| e.to_string()));
}

/// A sentinel, ended with the test.
struct Sentinel {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Sentinel {
    fn start(master: u16) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let port = free_port();
        let config = folder.path().join("sentinel.conf");
        let text = format!(
            "port {port}\nbind 127.0.0.1\nsentinel monitor lab 127.0.0.1 {master} 1\nsentinel auth-pass lab {PASSWORD}\n\
             sentinel down-after-milliseconds lab 500\nsentinel failover-timeout lab 2000\nrequirepass {PASSWORD}\n\
             sentinel sentinel-pass {PASSWORD}\n"
        );
        std::fs::write(&config, text).expect("written");
        let mut command = Command::new("redis-server");
        command.arg(&config).arg("--sentinel").current_dir(folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("a sentinel");
        Self { child, port, _folder: folder }
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fail_over_that_the_sentinels_decide_is_found_by_itself() {
    let mut master = RedisServer::start(&["--masterauth", PASSWORD]).expect("install redis-server");
    let of = master.port().to_string();
    let follow = ["--replicaof", "127.0.0.1", &of, "--masterauth", PASSWORD, "--repl-diskless-sync-delay", "0"];
    let replica = RedisServer::start(&follow).expect("a replica");
    let sentinel = Sentinel::start(master.port());
    let nobody = free_port();
    let url = format!("redis-sentinel://:{PASSWORD}@127.0.0.1:{nobody},127.0.0.1:{}/lab/0", sentinel.port);
    let link = Link::lazy(&plain(&url));
    until_answers(&link).await;
    set_get(&link, "k").await;
    let resolved = plain(&url).resolve_master().await.expect("a master");
    assert_eq!(resolved.label(), format!("127.0.0.1:{}/0", master.port()));
    assert_eq!(resolved.bullmq().expect("options").port, Some(master.port()));
    let unknown = Link::open(&plain(&url.replace("/lab", "/bal"))).await.expect_err("no such service");
    assert!(unknown.to_string().contains("knows no `bal`"), "{unknown}");
    // The sentinel has to know of the replica, and that has to have its copy.
    let known = plain(&format!("redis://:{PASSWORD}@127.0.0.1:{}", sentinel.port));
    let known = Link::open(&known).await.expect("the sentinel itself");
    let copy = Link::open(&plain(&replica.url())).await.expect("the replica");
    let end = Instant::now() + DEADLINE;
    loop {
        let replicas: Vec<redis::Value> =
            known.query(redis::cmd("SENTINEL").arg("REPLICAS").arg("lab")).await.expect("replicas");
        let info: String = copy.query(redis::cmd("INFO").arg("replication")).await.expect("info");
        if replicas.len() == 1 && info.contains("master_link_status:up") {
            break;
        }
        assert!(Instant::now() < end, "{replicas:?} {info}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    master.kill();
    let began = Instant::now();
    loop {
        let written = link.query::<()>(redis::cmd("SET").arg("howdah:after").arg("1")).await;
        match written {
            Ok(()) => break,
            Err(e) => assert!(e.is_away() && began.elapsed() < DEADLINE, "{e}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let now = plain(&url).resolve_master().await.expect("a master");
    assert_eq!(now.label(), format!("127.0.0.1:{}/0", replica.port()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_keeps_all_keys_of_howdah_in_one_slot() {
    let start = || {
        let bus = free_port();
        let words = ["--cluster-enabled", "yes", "--cluster-port", &bus.to_string(), "--cluster-node-timeout", "3000"];
        (RedisServer::start(&words).expect("a node"), bus)
    };
    let nodes = [start(), start(), start()];
    let mut links = Vec::new();
    for (node, _) in &nodes {
        links.push(Link::open(&plain(&node.url())).await.expect("a link"));
    }
    for (n, link) in links.iter().enumerate() {
        let (first, last) = [(0, 5460), (5461, 10922), (10923, 16383)][n];
        link.query::<()>(redis::cmd("CLUSTER").arg("ADDSLOTSRANGE").arg(first).arg(last)).await.expect("slots");
        let mut meet = redis::cmd("CLUSTER");
        meet.arg("MEET").arg("127.0.0.1").arg(nodes[0].0.port()).arg(nodes[0].1);
        link.query::<()>(&meet).await.expect("they meet");
    }
    let end = Instant::now() + DEADLINE;
    for link in &links {
        loop {
            let info: String = link.query(redis::cmd("CLUSTER").arg("INFO")).await.expect("info");
            if info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3") {
                break;
            }
            assert!(Instant::now() < end, "{info}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let seeds = nodes[..2].iter().map(|(node, _)| format!("127.0.0.1:{}", node.port())).collect::<Vec<_>>().join(",");
    let address = plain(&format!("redis-cluster://:{PASSWORD}@{seeds}"));
    let link = Link::open(&address).await.expect("a link");
    for key in ["a", "b", "c", "d"] {
        set_get(&link, key).await;
    }
    let mut unlink = redis::cmd("UNLINK");
    unlink.arg(address.key("a")).arg(address.key("b"));
    assert_eq!(link.query::<u32>(&unlink).await.expect("two keys of one slot"), 2);
    let queue = bullmq::redis_connection::RedisConnection::new_managed_only(&address.bullmq().expect("options")).await;
    assert!(queue.is_ok(), "{:?}", queue.err().map(|e| e.to_string()));
}
