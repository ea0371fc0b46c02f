//! The scenarios of tests/foreign_clients with the crate h2, and no gRPC library.
//!
//!     rust-h2 ADDRESS FOLDER

use std::future::Future;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Request};

type Loss = Option<String>;
type Failure = Box<dyn std::error::Error + Send + Sync>;

const LIMIT: Duration = Duration::from_secs(30);
const DETECT: &str = "/mods.v1.InferenceService/Detect";
const FORECAST: &str = "/mods.v1.InferenceService/Forecast";
const GET_MODEL: &str = "/mods.v1.ModelService/GetModel";
const STREAM: &str = "/mods.v1.InferenceService/StreamDetect";
const DEADLINE_EXCEEDED: &str = "4";
const NOT_FOUND: &str = "5";

/// A scenario: its calls, and those that ended otherwise than they had to.
struct Count {
    scenario: &'static str,
    calls: usize,
    lost: usize,
    detail: String,
}

impl Count {
    fn new(scenario: &'static str) -> Self {
        Count { scenario, calls: 0, lost: 0, detail: String::new() }
    }

    fn add(&mut self, loss: Loss) {
        self.calls += 1;
        if let Some(loss) = loss {
            if self.lost == 0 {
                self.detail = loss;
            }
            self.lost += 1;
        }
    }

    fn print(&self) {
        let detail = self.detail.replace(['"', '\\'], "?");
        println!(
            r#"{{"scenario":"{}","calls":{},"lost":{},"detail":"{}"}}"#,
            self.scenario, self.calls, self.lost, detail
        );
    }
}

/// How a call ended.
struct Outcome {
    messages: Vec<Bytes>,
    status: String,
    text: String,
    details: String,
}

/// A call whose answer is not read yet.
struct Open {
    response: ResponseFuture,
    request: SendStream<Bytes>,
}

fn frame(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(message.len() + 5);
    framed.put_u8(0);
    framed.put_u32(message.len() as u32);
    framed.put_slice(message);
    framed.freeze()
}

/// Splits messages, each after a zero byte and its length in four bytes; leaves what is not complete.
fn split(frames: &mut Bytes) -> Vec<Bytes> {
    let mut messages = Vec::new();
    while frames.len() >= 5 {
        let size = u32::from_be_bytes([frames[1], frames[2], frames[3], frames[4]]) as usize;
        if frames.len() < 5 + size {
            break;
        }
        messages.push(frames.split_to(5 + size).slice(5..));
    }
    messages
}

fn encode_base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let mut group = [0u8; 4];
        group[1..=chunk.len()].copy_from_slice(chunk);
        let value = u32::from_be_bytes(group);
        for place in 0..=chunk.len() {
            text.push(LETTERS[(value >> (18 - 6 * place) & 63) as usize] as char);
        }
    }
    text
}

async fn connect(address: &str, builder: &Builder) -> Result<SendRequest<Bytes>, Failure> {
    let socket = tokio::net::TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    let (sender, connection) = builder.handshake(socket).await?;
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(sender)
}

/// Starts a call.
async fn open(
    sender: &SendRequest<Bytes>,
    method: &str,
    first: &[u8],
    end: bool,
    headers: &HeaderMap,
    limit: Duration,
) -> Result<Open, Failure> {
    let mut sender = sender.clone().ready().await?;
    let mut request = Request::post(format!("http://localhost{method}")).version(http::Version::HTTP_2).body(())?;
    request.headers_mut().extend(headers.clone());
    for (name, value) in [("te", "trailers"), ("content-type", "application/grpc")] {
        request.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    let timeout = format!("{}m", limit.as_millis());
    request.headers_mut().insert("grpc-timeout", timeout.parse()?);
    let (response, mut request) = sender.send_request(request, false)?;
    request.send_data(frame(first), end)?;
    Ok(Open { response, request })
}

fn take_status(outcome: &mut Outcome, headers: &HeaderMap) {
    let text = |name: &str| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    if let Some(status) = text("grpc-status") {
        outcome.status = status;
        outcome.text = text("grpc-message").unwrap_or_default();
        outcome.details = text("grpc-status-details-bin").unwrap_or_default();
    }
}

/// Reads an answer to its end.
async fn finish(call: Open) -> Result<Outcome, Failure> {
    let (head, mut body) = call.response.await?.into_parts();
    let mut outcome = Outcome { messages: Vec::new(), status: String::new(), text: String::new(), details: String::new() };
    take_status(&mut outcome, &head.headers);
    let mut received = BytesMut::new();
    while let Some(part) = body.data().await {
        let part = part?;
        body.flow_control().release_capacity(part.len())?;
        received.extend_from_slice(&part);
    }
    outcome.messages = split(&mut received.freeze());
    if let Some(trailers) = body.trailers().await? {
        take_status(&mut outcome, &trailers);
    }
    Ok(outcome)
}

fn check(outcome: Result<Outcome, Failure>, expected: &[u8]) -> Loss {
    match outcome {
        Err(error) => Some(error.to_string()),
        Ok(outcome) if outcome.status != "0" => Some(format!("{}: {}", outcome.status, outcome.text)),
        Ok(outcome) if outcome.messages.len() == 1 && outcome.messages[0] == expected => None,
        Ok(_) => Some("another answer".into()),
    }
}

struct Client {
    address: String,
    small: Vec<u8>,
    small_answer: Vec<u8>,
    large: Vec<u8>,
    large_answer: Vec<u8>,
    missing: Vec<u8>,
    missing_details: String,
    stream: Vec<Bytes>,
    stream_answers: Vec<Bytes>,
    sender: SendRequest<Bytes>,
}

impl Client {
    async fn new(address: String, folder: PathBuf) -> Result<Self, Failure> {
        let read = |name: &str| std::fs::read(folder.join(name));
        Ok(Client {
            small: read("small.request")?,
            small_answer: read("small.answer")?,
            large: read("large.request")?,
            large_answer: read("large.answer")?,
            missing: read("missing.request")?,
            missing_details: encode_base64(&read("missing.details")?),
            stream: split(&mut read("stream.requests")?.into()),
            stream_answers: split(&mut read("stream.answers")?.into()),
            sender: connect(&address, &Builder::new()).await?,
            address,
        })
    }

    async fn call_with(&self, sender: &SendRequest<Bytes>, headers: &HeaderMap, method: &str, request: &[u8]) -> Result<Outcome, Failure> {
        finish(open(sender, method, request, true, headers, LIMIT).await?).await
    }

    async fn call_small(&self) -> Loss {
        check(self.call_with(&self.sender, &HeaderMap::new(), DETECT, &self.small).await, &self.small_answer)
    }

    async fn call_large(&self) -> Loss {
        check(self.call_with(&self.sender, &HeaderMap::new(), FORECAST, &self.large).await, &self.large_answer)
    }

    async fn call_missing(&self, sender: &SendRequest<Bytes>) -> Loss {
        match self.call_with(sender, &HeaderMap::new(), GET_MODEL, &self.missing).await {
            Err(error) => Some(error.to_string()),
            Ok(outcome) if outcome.status != NOT_FOUND => Some(format!("{}: {}", outcome.status, outcome.text)),
            Ok(outcome) if outcome.details.trim_end_matches('=') == self.missing_details => None,
            Ok(_) => Some("other details".into()),
        }
    }

    async fn unary(&self, count: &mut Count) {
        for _ in 0..100 {
            count.add(self.call_small().await);
        }
    }

    async fn error_details(&self, count: &mut Count) {
        for _ in 0..20 {
            count.add(self.call_missing(&self.sender).await);
        }
    }

    async fn deadlines(&self, count: &mut Count) {
        let brief = Duration::from_millis(300);
        let mut silent = Vec::new();
        for _ in 0..10 {
            silent.push(open(&self.sender, STREAM, &self.stream[0], false, &HeaderMap::new(), brief).await);
        }
        for _ in 0..50 {
            count.add(self.call_small().await);
        }
        for call in silent {
            let outcome = match call {
                Ok(call) => finish(call).await,
                Err(error) => Err(error),
            };
            count.add(match outcome {
                Ok(outcome) if outcome.status == DEADLINE_EXCEEDED => None,
                Ok(outcome) => Some(format!("{}: {}", outcome.status, outcome.text)),
                Err(error) => Some(error.to_string()),
            });
        }
        for _ in 0..10 {
            count.add(self.call_small().await);
        }
    }

    async fn cancel_at_start(&self, count: &mut Count) {
        for _ in 0..15 {
            let mut innocent: Vec<Result<Open, Failure>> = Vec::new();
            for _ in 0..10 {
                innocent.push(open(&self.sender, DETECT, &self.small, true, &HeaderMap::new(), LIMIT).await);
                if let Ok(mut dropped) = open(&self.sender, DETECT, &self.small, true, &HeaderMap::new(), LIMIT).await {
                    dropped.request.send_reset(Reason::CANCEL);
                }
            }
            for call in innocent {
                let outcome = match call {
                    Ok(call) => finish(call).await,
                    Err(error) => Err(error),
                };
                count.add(check(outcome, &self.small_answer));
            }
        }
    }

    async fn cancel_answers(&self, count: &mut Count) {
        for _ in 0..3 {
            let mut calls: Vec<Pin<Box<dyn Future<Output = Loss> + '_>>> = Vec::new();
            for _ in 0..5 {
                calls.push(Box::pin(self.cut_large()));
                calls.push(Box::pin(self.call_small()));
                calls.push(Box::pin(self.call_large()));
            }
            for loss in together(calls.into_iter()).await {
                count.add(loss);
            }
        }
    }

    /// Resets a call when the first bytes of its answer are there.
    async fn cut_large(&self) -> Loss {
        let mut call = match open(&self.sender, FORECAST, &self.large, true, &HeaderMap::new(), LIMIT).await {
            Ok(call) => call,
            Err(error) => return Some(error.to_string()),
        };
        let answer = (&mut call.response).await;
        call.request.send_reset(Reason::CANCEL);
        answer.err().map(|error| error.to_string())
    }

    async fn large_answers(&self, count: &mut Count) {
        for loss in together((0..20).map(|_| self.call_large())).await {
            count.add(loss);
        }
    }

    async fn metadata(&self, count: &mut Count) -> Result<(), Failure> {
        let mut headers = HeaderMap::new();
        headers.insert("x-all-bytes-bin", encode_base64(&(0..=255).collect::<Vec<u8>>()).parse()?);
        headers.insert("x-empty-bin", HeaderValue::from_static(""));
        for index in 0..60 {
            let name: http::header::HeaderName = format!("x-key-{index}").parse()?;
            headers.insert(name, format!("{}{index}", "value ".repeat(10)).parse()?);
        }
        for index in 0..3 {
            headers.append("x-twice", format!("a, b;c=\"{index}\"").parse()?);
        }
        for _ in 0..20 {
            count.add(check(self.call_with(&self.sender, &headers, DETECT, &self.small).await, &self.small_answer));
        }
        Ok(())
    }

    async fn at_once(&self, count: &mut Count) {
        for loss in together((0..300).map(|_| self.call_small())).await {
            count.add(loss);
        }
    }

    async fn stream(&self, count: &mut Count) -> Result<(), Failure> {
        let mut call = open(&self.sender, STREAM, &self.stream[0], false, &HeaderMap::new(), LIMIT).await?;
        let mut body: RecvStream = (&mut call.response).await?.into_body();
        let mut answers: Vec<Bytes> = Vec::new();
        let mut received = BytesMut::new();
        while answers.len() < self.stream_answers.len() {
            let Some(part) = body.data().await else { break };
            let part = part?;
            body.flow_control().release_capacity(part.len())?;
            received.extend_from_slice(&part);
            let mut whole = received.split().freeze();
            let before = answers.len();
            answers.extend(split(&mut whole));
            received.extend_from_slice(&whole);
            if before == 0 && !answers.is_empty() {
                for message in &self.stream[1..] {
                    call.request.send_data(frame(message), false)?;
                }
            }
        }
        let _ = call.request.send_data(Bytes::new(), true); // fails where the server has closed the stream already
        for (index, expected) in self.stream_answers.iter().enumerate().skip(1) {
            let equal = answers.get(index) == Some(expected);
            count.add(if equal { None } else { Some(format!("answer {index} of {}", answers.len())) });
        }
        while let Some(part) = body.data().await {
            part?;
        }
        let trailers = body.trailers().await?.unwrap_or_default();
        let status = trailers.get("grpc-status").cloned();
        count.add(if status == Some(HeaderValue::from_static("0")) { None } else { Some(format!("{status:?}")) });
        Ok(())
    }

    async fn settings(&self, count: &mut Count) -> Result<(), Failure> {
        let mut variants = vec![
            ("window of 1", Builder::new(), false),
            ("window of 1,000", Builder::new(), true),
            ("windows of 2^31 - 1", Builder::new(), true),
            ("frames up to 2^24 - 1", Builder::new(), true),
            ("header lists up to 1,000, no push", Builder::new(), true),
        ];
        variants[0].1.initial_window_size(1);
        variants[1].1.initial_window_size(1000);
        variants[2].1.initial_window_size((1 << 31) - 1).initial_connection_window_size((1 << 31) - 1);
        variants[3].1.max_frame_size((1 << 24) - 1).initial_window_size(1 << 24);
        variants[4].1.max_header_list_size(1000).enable_push(false);
        for (name, builder, large) in variants {
            let sender = connect(&self.address, &builder).await?;
            let say = |loss: Loss| loss.map(|loss| format!("{name}: {loss}"));
            for _ in 0..3 {
                let outcome = self.call_with(&sender, &HeaderMap::new(), DETECT, &self.small).await;
                count.add(say(check(outcome, &self.small_answer)));
                count.add(say(self.call_missing(&sender).await));
            }
            if large {
                let outcome = self.call_with(&sender, &HeaderMap::new(), FORECAST, &self.large).await;
                count.add(say(check(outcome, &self.large_answer)));
            }
        }
        Ok(())
    }

    async fn drain(&self, count: &mut Count) -> Result<(), Failure> {
        let sender = connect(&self.address, Builder::new().initial_connection_window_size(16 << 20)).await?;
        let mut calls = Vec::new();
        for _ in 0..60 {
            calls.push(open(&sender, FORECAST, &self.large, true, &HeaderMap::new(), LIMIT).await?);
        }
        // Sent after them, so that they are under way when it is answered.
        count.add(check(self.call_with(&sender, &HeaderMap::new(), DETECT, &self.small).await, &self.small_answer));
        println!(r#"{{"scenario":"under_way"}}"#);
        std::io::stdout().flush()?;
        std::io::stdin().read_exact(&mut [0])?; // blocks everything: nothing is read meanwhile
        for loss in together(calls.into_iter().map(|call| async { check(finish(call).await, &self.large_answer) })).await {
            count.add(loss);
        }
        Ok(())
    }
}

/// Waits for futures that run at once on this thread.
async fn together<F: Future<Output = Loss>>(futures: impl Iterator<Item = F>) -> Vec<Loss> {
    let mut pending: Vec<Pin<Box<F>>> = futures.map(Box::pin).collect();
    let mut losses = Vec::new();
    std::future::poll_fn(|context| {
        pending.retain_mut(|future| match future.as_mut().poll(context) {
            std::task::Poll::Ready(loss) => {
                losses.push(loss);
                false
            }
            std::task::Poll::Pending => true,
        });
        if pending.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    losses
}

macro_rules! run {
    ($client:ident, $($scenario:ident)*) => {$(
        let mut count = Count::new(stringify!($scenario));
        let _ = $client.$scenario(&mut count).await;
        count.print();
    )*};
}

macro_rules! try_run {
    ($client:ident, $($scenario:ident)*) => {$(
        let mut count = Count::new(stringify!($scenario));
        if let Err(error) = $client.$scenario(&mut count).await {
            count.add(Some(error.to_string()));
        }
        count.print();
    )*};
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().collect();
    let client = Client::new(words[1].clone(), words[2].clone().into()).await?;
    run!(client, unary error_details deadlines cancel_at_start cancel_answers large_answers at_once);
    try_run!(client, metadata stream settings drain);
    Ok(())
}
