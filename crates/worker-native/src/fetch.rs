//! Audio files on their way from the coordinator, or a storage, to this machine.

use std::{
    fs::File,
    io::{self, SeekFrom},
};

use chaarfm_scratch::Scratch;
use chaarfm_worker::{FetchError, Fetched, Received};
use reqwest::Client;
use tokio::io::{AsyncSeekExt, AsyncWriteExt};
use url::Url;

use crate::{manners::Keeper, network::in_plain_words};

/// Downloads a file of exactly `bytes` bytes to a temporary one that has no name and is gone when it is closed. Calls
/// `progress` with the share that has arrived, 0 to 1. Stands still for as long as the keeper lets nothing be fetched, which is
/// no stall.
pub(crate) async fn fetch(
    http: &Client,
    url: &Url,
    bytes: u64,
    keeper: &Keeper,
    scratch: &Scratch,
    progress: &dyn Fn(f32),
) -> Result<Fetched<File>, FetchError> {
    keeper.gate().fetching(|| progress(0.0)).await;
    let mut response = http.get(url.clone()).send().await.map_err(broken)?;
    if !response.status().is_success() {
        return Err(FetchError::Status(response.status().as_u16()));
    }
    let mut file = tokio::fs::File::from_std(scratch.file().map_err(not_kept)?);
    let mut received = Received::nothing_of(bytes);
    while let Some(piece) = response.chunk().await.map_err(broken)? {
        let fraction = received.piece(&piece)?;
        keeper.fetched(piece.len() as u64);
        file.write_all(&piece).await.map_err(not_kept)?;
        progress(fraction);
        // A file that is whole need not wait.
        if fraction < 1.0 {
            keeper.gate().fetching(|| progress(fraction)).await;
        }
    }
    let content_hash = received.finish()?;
    file.flush().await.map_err(not_kept)?;
    file.seek(SeekFrom::Start(0)).await.map_err(not_kept)?;
    Ok(Fetched { audio: file.into_std().await, content_hash })
}

/// The address holds the lease, or a storage's signature: they belong in no log.
fn broken(error: reqwest::Error) -> FetchError {
    FetchError::Broken(in_plain_words(&error.without_url()))
}

fn not_kept(error: io::Error) -> FetchError {
    FetchError::Storage(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::{
        cell::{Cell, RefCell},
        io::{Read, Write},
        net::TcpListener,
        sync::{LazyLock, mpsc},
        thread,
    };

    use super::*;
    use crate::{manners::Manners, network::Network};

    static SCRATCH: LazyLock<Scratch> = LazyLock::new(Scratch::default);

    /// Serves one response to one request.
    fn serve(response: &'static str) -> Url {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/a?lease=secret", listener.local_addr().unwrap());
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            assert!(stream.read(&mut request).unwrap() > 0);
            stream.write_all(response.as_bytes()).unwrap();
        });
        url.parse().unwrap()
    }

    async fn get(response: &'static str, bytes: u64) -> Result<(String, f32), FetchError> {
        let share = Cell::new(0.0);
        let network = Network::of_system().unwrap();
        let keeper = Keeper::idle(Manners::default());
        let mut fetched =
            fetch(network.http(), &serve(response), bytes, &keeper, &SCRATCH, &|fraction| share.set(fraction)).await?;
        let mut text = String::new();
        fetched.audio.read_to_string(&mut text).unwrap();
        assert_eq!(fetched.content_hash, blake3::hash(text.as_bytes()).to_hex().to_string());
        Ok((text, share.get()))
    }

    #[tokio::test]
    async fn keeps_a_file_of_the_announced_size_only() {
        const FIVE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
        assert_eq!(get(FIVE, 5).await, Ok(("hello".into(), 1.0)));
        assert_eq!(get(FIVE, 6).await, Err(FetchError::TooShort { announced: 6, received: 5 }));
        assert_eq!(get(FIVE, 4).await, Err(FetchError::TooLong { announced: 4, received: 5 }));
    }

    #[tokio::test]
    async fn asks_for_the_file_and_says_nothing_else() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let length = stream.read(&mut request).unwrap();
            stream.write_all(b"HTTP/1.1 302 Found\r\nlocation: /b\r\ncontent-length: 0\r\n\r\n").unwrap();
            String::from_utf8(request[..length].to_vec()).unwrap()
        });
        let network = Network::of_system().unwrap();
        let url = format!("http://{address}/tunes/a%20b.mp3?X-Amz-Signature=0a%2F").parse().unwrap();
        let answer = fetch(network.http(), &url, 5, &Keeper::idle(Manners::default()), &SCRATCH, &|_| {}).await;
        assert_eq!(answer.unwrap_err(), FetchError::Status(302), "and goes where it was sent only");
        let request =
            format!("GET /tunes/a%20b.mp3?X-Amz-Signature=0a%2F HTTP/1.1\r\naccept: */*\r\nhost: {address}\r\n\r\n");
        assert_eq!(asked.join().unwrap(), request);
    }

    #[tokio::test]
    async fn names_the_status_but_never_the_lease() {
        assert_eq!(get("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n", 5).await, Err(FetchError::Status(403)));
        let Err(FetchError::Broken(reason)) = get("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe", 5).await else {
            panic!("three bytes are missing");
        };
        assert!(!reason.contains("secret"), "{reason}");
    }

    #[tokio::test]
    async fn stands_still_where_nothing_may_be_fetched_and_counts_what_was() {
        let keeper = Keeper::idle(Manners { max_bytes_per_day: Some("2 B".parse().unwrap()), ..Manners::default() });
        let network = Network::of_system().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/a", listener.local_addr().unwrap()).parse().unwrap();
        let (rest, wanted) = mpsc::channel();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            assert!(stream.read(&mut [0; 1024]).unwrap() > 0);
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe").unwrap();
            wanted.recv().unwrap();
            stream.write_all(b"llo").unwrap();
        });
        let told = RefCell::new(Vec::new());
        let progress = |fraction| {
            told.borrow_mut().push(fraction);
            if told.borrow().len() == 3 {
                keeper.set_manners(Manners::default());
                rest.send(()).unwrap();
            }
        };
        let mut fetched = fetch(network.http(), &url, 5, &keeper, &SCRATCH, &progress).await.unwrap();
        let mut text = String::new();
        fetched.audio.read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), &told.borrow()[..4]), ("hello", &[0.4, 0.4, 0.4, 1.0][..]));
        assert_eq!(keeper.overview().bytes_today, 5);
    }
}
