//! `GET /metrics` over HTTP/1.1: one answer a connection, few connections at once, none for long.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, http};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{Exposition, Format};

/// Connections at once; whoever comes then waits.
const MOST: usize = 8;
/// How long a request's head may take to come.
const HEAD: Duration = Duration::from_secs(3);
/// How long a connection may last in all.
const WHOLE: Duration = Duration::from_secs(10);
/// How long it rests when no connection can be taken, as when there are no more file descriptors.
const REST: Duration = Duration::from_millis(200);

/// Where metrics are told, once the address is taken.
#[derive(Debug)]
pub struct Endpoint {
    listener: TcpListener,
    address: SocketAddr,
}

impl Endpoint {
    /// Takes the address. Port 0: any that is free.
    ///
    /// # Errors
    /// It cannot be taken.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// The address that it has.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `stop`.
    pub async fn serve(self, told: Arc<Exposition>, stop: CancellationToken) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
                accepted = self.listener.accept(), if connections.len() < MOST => match accepted {
                    Ok((stream, _)) => {
                        connections.spawn(answer(stream, Arc::clone(&told)));
                    }
                    Err(error) => {
                        tracing::debug!("metrics: no connection can be taken: {error}");
                        sleep(REST).await;
                    }
                },
            }
        }
    }
}

async fn answer(stream: TcpStream, told: Arc<Exposition>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = respond(&request, &told);
        async move { Ok::<_, Infallible>(response) }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD).keep_alive(false).max_buf_size(16 * 1024);
    match timeout(WHOLE, http.serve_connection(TokioIo::new(stream), service)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!("metrics: {error}"),
        Err(_) => tracing::debug!("metrics: a connection took too long"),
    }
}

fn respond<B>(request: &Request<B>, told: &Exposition) -> Response<Full<Bytes>> {
    const PLAIN: &str = "text/plain; charset=utf-8";
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = reply(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "only GET\n".to_owned());
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        "/metrics" => {
            let accept = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok());
            let format = Format::accepted(accept.unwrap_or_default());
            reply(StatusCode::OK, format.content_type(), told.text(format))
        }
        "/" => reply(StatusCode::OK, PLAIN, "howdah: metrics are at /metrics\n".to_owned()),
        _ => reply(StatusCode::NOT_FOUND, PLAIN, "not here: metrics are at /metrics\n".to_owned()),
    }
}

fn reply(status: StatusCode, kind: &'static str, text: String) -> http::Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// A server, and what it answers to bytes.
    async fn asked(requests: &[&str]) -> Vec<String> {
        let endpoint = Endpoint::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let (address, stop) = (endpoint.address(), CancellationToken::new());
        let mut tasks = JoinSet::new();
        tasks.spawn(endpoint.serve(Arc::default(), stop.clone()));
        let mut answers = Vec::new();
        for request in requests {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            timeout(Duration::from_secs(20), stream.read_to_string(&mut answer)).await.unwrap().unwrap();
            answers.push(answer);
        }
        stop.cancel();
        tasks.join_next().await.unwrap().unwrap();
        answers
    }

    #[tokio::test]
    async fn each_path_and_method_has_its_answer_and_the_connection_its_end() {
        let open = "GET /metrics HTTP/1.1\r\nHost: h\r\nAccept: application/openmetrics-text\r\n\r\n";
        let answers = asked(&[
            "GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n",
            open,
            "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET /other HTTP/1.1\r\nHost: h\r\n\r\n",
            "POST /metrics HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
            "HEAD /metrics HTTP/1.1\r\nHost: h\r\n\r\n",
            "nonsense\r\n\r\n",
        ])
        .await;
        let expected = [
            ("HTTP/1.1 200", "howdah_build_info{version="),
            ("HTTP/1.1 200", "# EOF\n"),
            ("HTTP/1.1 200", "metrics are at /metrics"),
            ("HTTP/1.1 404", "not here"),
            ("HTTP/1.1 405", "allow: GET, HEAD"),
            ("HTTP/1.1 200", "version=0.0.4"),
            ("HTTP/1.1 400", ""),
        ];
        for (answer, (status, words)) in answers.iter().zip(expected) {
            assert!(answer.starts_with(status) && answer.contains(words), "{status} {words}:\n{answer}");
        }
        assert!(answers[5].ends_with("\r\n\r\n"), "a HEAD has no body: {}", answers[5]);
    }

    #[tokio::test]
    async fn connections_that_say_nothing_keep_nobody_out_for_long() {
        let endpoint = Endpoint::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let (address, stop) = (endpoint.address(), CancellationToken::new());
        let mut tasks = JoinSet::new();
        tasks.spawn(endpoint.serve(Arc::default(), stop.clone()));
        let mut silent = Vec::new();
        for _ in 0..MOST {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        timeout(Duration::from_mins(1), stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        stop.cancel();
        tasks.join_next().await.unwrap().unwrap();
    }
}
