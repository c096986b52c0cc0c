//! A server that answers what a test wrote down, byte by byte, one answer a connection.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// Starts one that gives `answers` in turn. Its `http://` address, and the requests that it saw.
pub(super) async fn serve(answers: Vec<String>) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let requests = Arc::clone(&seen);
    tokio::spawn(async move {
        for answer in answers {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            let mut buffer = [0; 4096];
            loop {
                if let Some(head) = request.windows(4).position(|window| window == b"\r\n\r\n") {
                    let text = String::from_utf8_lossy(&request[..head]).to_lowercase();
                    let length = text.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
                    let length: usize = length.map_or(0, |length| length.parse().unwrap());
                    if request.len() >= head + 4 + length {
                        break;
                    }
                }
                let read = socket.read(&mut buffer).await.unwrap();
                assert!(read > 0, "a request ended early");
                request.extend_from_slice(&buffer[..read]);
            }
            requests.lock().unwrap().push(String::from_utf8_lossy(&request).into_owned());
            socket.write_all(answer.as_bytes()).await.unwrap();
            socket.shutdown().await.ok();
        }
    });
    (endpoint, seen)
}

/// A whole answer.
pub(super) fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len())
}
