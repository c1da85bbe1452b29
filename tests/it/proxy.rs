//! The network between howdah and a server, at a test's command: it passes, freezes, forgets, refuses and cuts.

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::support::Dice;

/// Below the ports that a system gives to outgoing connections: nobody takes ours while it refuses.
const PORTS: std::ops::Range<u16> = 20_000..30_000;

/// A TCP proxy on a thread of its own: a test that blocks does not hold up the network.
pub struct Proxy {
    port: u16,
    /// `None` once the proxy is to end.
    orders: Option<mpsc::UnboundedSender<(Order, oneshot::Sender<()>)>>,
    accepted: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Clone, Copy)]
enum Order {
    Pass,
    Freeze,
    Forget,
    Refuse,
    Cut,
}

/// How packets are treated. Connections are numbered from 1, in the order of their coming.
#[derive(Debug, Clone, Copy, Default)]
struct State {
    /// No packet moves, on any connection.
    frozen: bool,
    /// No packet ever moves again on connections up to this one; they stay open.
    forgotten: u64,
    /// Connections up to this one are reset.
    cut: u64,
}

impl Proxy {
    /// A proxy that passes everything to a port of this host.
    pub fn before(upstream: u16) -> Self {
        let mut dice = Dice::new(u64::from(std::process::id()));
        let span = u64::from(PORTS.end - PORTS.start);
        let listener = loop {
            let port = PORTS.start + u16::try_from(dice.below(span)).expect("a port");
            if let Ok(listener) = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
                break listener;
            }
        };
        let port = listener.local_addr().expect("an address").port();
        listener.set_nonblocking(true).expect("a listener for tokio");
        let (orders, heard) = mpsc::unbounded_channel();
        let accepted = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&accepted);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("a listener");
                serve(listener, port, upstream, heard, &count).await;
            });
        });
        Self { port, orders: Some(orders), accepted, thread: Some(thread) }
    }

    /// A proxy before the server that a `postgresql://` URL leads to, and the URL that leads through it.
    pub fn before_url(url: &str) -> (Self, String) {
        let upstream = url.parse::<PgConnectOptions>().expect("a URL").get_port();
        let proxy = Self::before(upstream);
        let through = url.replace(&format!(":{upstream}/"), &format!(":{}/", proxy.port));
        assert_ne!(url, through, "the port stands in the URL");
        (proxy, through)
    }

    /// Lets everything pass, also on connections that were frozen.
    pub async fn pass(&self) {
        self.order(Order::Pass).await;
    }

    /// Lets no packet pass on any connection, old or new. All stay open.
    pub async fn freeze(&self) {
        self.order(Order::Freeze).await;
    }

    /// Lets no packet pass on the connections that there are, for ever; new ones pass. What a NAT does that was restarted.
    pub async fn forget(&self) {
        self.order(Order::Forget).await;
    }

    /// Resets the connections that there are, and refuses new ones.
    pub async fn refuse(&self) {
        self.order(Order::Refuse).await;
    }

    /// Resets the connections that there are; new ones pass.
    pub async fn cut(&self) {
        self.order(Order::Cut).await;
    }

    /// How many connections have come in so far.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::SeqCst)
    }

    /// Returns once the order is obeyed.
    async fn order(&self, order: Order) {
        let (obey, obeyed) = oneshot::channel();
        self.orders.as_ref().and_then(|orders| orders.send((order, obey)).ok()).expect("the proxy lives");
        obeyed.await.expect("the proxy obeys");
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.orders.take());
        // A proxy that has panicked has failed its test already.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

async fn serve(
    listener: TcpListener,
    port: u16,
    upstream: u16,
    mut orders: mpsc::UnboundedReceiver<(Order, oneshot::Sender<()>)>,
    accepted: &AtomicU64,
) {
    let mut listener = Some(listener);
    let (told, state) = watch::channel(State::default());
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            order = orders.recv() => {
                let Some((order, obey)) = order else { return };
                let so_far = accepted.load(Ordering::SeqCst);
                match order {
                    Order::Refuse => listener = None,
                    Order::Pass | Order::Freeze | Order::Forget | Order::Cut if listener.is_none() => {
                        listener = Some(bind(port).await);
                    }
                    Order::Pass | Order::Freeze | Order::Forget | Order::Cut => {}
                }
                told.send_modify(|state| {
                    state.frozen = matches!(order, Order::Freeze);
                    match order {
                        Order::Pass | Order::Freeze => {}
                        Order::Forget => state.forgotten = so_far,
                        Order::Refuse | Order::Cut => state.cut = so_far,
                    }
                });
                // A test that no longer waits has ended.
                let _ = obey.send(());
            }
            client = accept(listener.as_ref()) => {
                let number = accepted.fetch_add(1, Ordering::SeqCst) + 1;
                connections.spawn(connection(client, upstream, number, state.clone()));
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn bind(port: u16) -> TcpListener {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
            Ok(listener) => return listener,
            Err(e) => assert!(Instant::now() < end, "port {port} is not to be had again: {e}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn accept(listener: Option<&TcpListener>) -> TcpStream {
    loop {
        match listener {
            None => std::future::pending().await,
            // A client that has gone away again before it was accepted.
            Some(listener) => {
                if let Ok((client, _)) = listener.accept().await {
                    return client;
                }
            }
        }
    }
}

async fn connection(mut client: TcpStream, upstream: u16, number: u64, state: watch::Receiver<State>) {
    let mut heard = state.clone();
    let cut = async move {
        // An error: the proxy is over.
        let _ = heard.wait_for(|state| state.cut >= number).await;
    };
    let pass = async {
        moving(&mut state.clone(), number).await;
        let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, upstream)).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (client_in, client_out) = client.split();
        let (server_in, server_out) = server.split();
        tokio::join!(
            flow(client_in, server_out, state.clone(), number),
            flow(server_in, client_out, state.clone(), number)
        );
        Ok::<(), io::Error>(())
    };
    let was_cut = tokio::select! {
        biased;
        () = cut => true,
        // A server that refuses shows as a connection that is closed at once.
        _ = pass => false,
    };
    if was_cut {
        // A reset instead of an orderly end; where that fails an orderly end will do.
        let _ = client.set_zero_linger();
    }
}

async fn flow(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, mut state: watch::Receiver<State>, number: u64) {
    let mut bytes = vec![0; 16 * 1024];
    loop {
        let read = from.read(&mut bytes).await.unwrap_or(0);
        moving(&mut state, number).await;
        if read == 0 {
            let _ = to.shutdown().await;
            return;
        }
        if to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}

/// Waits until packets of this connection move.
async fn moving(state: &mut watch::Receiver<State>, number: u64) {
    let _ = state.wait_for(|state| !state.frozen && state.forgotten < number).await;
}

mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(10);
    /// Long enough for a packet to come through on a busy machine, if one did.
    const NEVER: Duration = Duration::from_millis(300);

    /// A server that says everything back, and a proxy before it.
    async fn echo() -> (JoinSet<()>, Proxy) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let proxy = Proxy::before(listener.local_addr().expect("an address").port());
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut clients = JoinSet::new();
            while let Ok((mut client, _)) = listener.accept().await {
                clients.spawn(async move {
                    let (mut from, mut to) = client.split();
                    tokio::io::copy(&mut from, &mut to).await
                });
            }
        });
        (server, proxy)
    }

    async fn connect(proxy: &Proxy) -> io::Result<TcpStream> {
        TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port)).await
    }

    /// Whether a word comes back within `limit`.
    async fn says(client: &mut TcpStream, word: &[u8; 4], limit: Duration) -> bool {
        client.write_all(word).await.expect("the connection is open");
        hears(client, word, limit).await
    }

    async fn hears(client: &mut TcpStream, word: &[u8; 4], limit: Duration) -> bool {
        let mut answer = [0; 4];
        match tokio::time::timeout(limit, client.read_exact(&mut answer)).await {
            Ok(Ok(_)) => &answer == word,
            Ok(Err(_)) | Err(_) => false,
        }
    }

    #[tokio::test]
    async fn a_proxy_passes_freezes_and_thaws() {
        let (_server, proxy) = echo().await;
        let mut old = connect(&proxy).await.expect("it passes");
        assert!(says(&mut old, b"once", SOON).await);
        proxy.freeze().await;
        assert!(!says(&mut old, b"cold", NEVER).await, "a frozen connection says nothing, and stays open");
        let mut new = connect(&proxy).await.expect("a new connection opens");
        assert!(!says(&mut new, b"snow", NEVER).await, "and says nothing either");
        proxy.pass().await;
        assert!(hears(&mut old, b"cold", SOON).await && hears(&mut new, b"snow", SOON).await, "nothing was lost");
        assert_eq!(proxy.accepted(), 2);
    }

    #[tokio::test]
    async fn a_proxy_that_forgot_passes_new_connections_only() {
        let (_server, proxy) = echo().await;
        let mut old = connect(&proxy).await.expect("it passes");
        assert!(says(&mut old, b"once", SOON).await);
        proxy.forget().await;
        let mut new = connect(&proxy).await.expect("it passes");
        assert!(says(&mut new, b"here", SOON).await);
        proxy.pass().await;
        assert!(!says(&mut old, b"gone", NEVER).await, "what is forgotten stays forgotten");
    }

    #[tokio::test]
    async fn a_proxy_cuts_what_there_is_and_passes_what_comes() {
        let (_server, proxy) = echo().await;
        let mut old = connect(&proxy).await.expect("it passes");
        assert!(says(&mut old, b"once", SOON).await);
        proxy.cut().await;
        let ended = tokio::time::timeout(SOON, old.read(&mut [0; 4])).await.expect("it is noticed at once");
        assert_eq!(ended.expect_err("a reset").kind(), io::ErrorKind::ConnectionReset);
        let mut new = connect(&proxy).await.expect("it passes");
        assert!(says(&mut new, b"here", SOON).await);
    }

    #[tokio::test]
    async fn a_proxy_refuses_until_it_passes_again_on_the_same_port() {
        let (_server, proxy) = echo().await;
        let mut old = connect(&proxy).await.expect("it passes");
        assert!(says(&mut old, b"once", SOON).await);
        proxy.refuse().await;
        assert!(tokio::time::timeout(SOON, old.read(&mut [0; 4])).await.expect("at once").is_err());
        assert_eq!(connect(&proxy).await.expect_err("refused").kind(), io::ErrorKind::ConnectionRefused);
        proxy.pass().await;
        let mut new = connect(&proxy).await.expect("it passes");
        assert!(says(&mut new, b"back", SOON).await);
    }
}
