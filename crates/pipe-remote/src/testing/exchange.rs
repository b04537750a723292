//! Connections: one request each, read, answered (or spoiled) and closed.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use percent_encoding::percent_decode_str;

use super::answer::{Answer, answer};
use super::{Fault, Request, State, lock};

/// Serves until the server is dropped.
pub(super) fn accept(listener: &TcpListener, state: &Arc<Mutex<State>>) {
    for stream in listener.incoming() {
        if lock(state).stopped {
            return;
        }
        let (Ok(stream), state) = (stream, Arc::clone(state)) else { continue };
        // A client that goes away in the middle is part of the tests.
        std::thread::spawn(move || drop(serve(stream, &state)));
    }
}

fn serve(mut stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let Some(request) = read(&stream)? else { return Ok(()) };
    let (answer, fault) = {
        let mut state = lock(state);
        state.requests.push(request.clone());
        let next = state.faults.get_mut(&request.path).and_then(std::collections::VecDeque::pop_front);
        let fault = next.or_else(|| state.always.get(&request.path).cloned());
        (answer(&state, &request), fault)
    };
    let most = if request.method == "HEAD" { 0 } else { answer.body.len() };
    match fault {
        None => write(&mut stream, &answer, most),
        Some(Fault::Status(status)) => write(&mut stream, &Answer::status(status), 0),
        Some(Fault::RetryAfter(status, after)) => write(&mut stream, &Answer::status(status).header("Retry-After", after), 0),
        Some(Fault::Short(bytes)) => write(&mut stream, &answer, bytes.min(most)),
        Some(Fault::Stall(bytes)) => {
            write(&mut stream, &answer, bytes.min(most))?;
            while !lock(state).stopped {
                std::thread::sleep(Duration::from_millis(5));
            }
            Ok(())
        }
        Some(Fault::Hangup) => Ok(()),
    }
}

/// None where the client says nothing.
fn read(stream: &TcpStream) -> std::io::Result<Option<Request>> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let (method, target) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
    let mut headers = std::collections::BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    // No request that is answered has a body; one that comes must still be read, or closing would reset the connection.
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    std::io::copy(&mut reader.take(length), &mut std::io::sink())?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let path = percent_decode_str(path).decode_utf8_lossy().into_owned();
    Ok(Some(Request { method, path, query: query.to_owned(), headers }))
}

/// Announces the whole body and sends `bytes` of it.
fn write(stream: &mut TcpStream, answer: &Answer, bytes: usize) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {} \r\nConnection: close\r\nContent-Length: {}\r\n", answer.status, answer.body.len());
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    stream.write_all(&answer.body[..bytes])?;
    stream.flush()
}
