//! Downloads audio files from the coordinator or a storage.

use std::{
    error::Error,
    fs::File,
    io::{self, SeekFrom},
};

use chaarfm_protocol::LEASE_HEADER;
use chaarfm_scratch::Scratch;
use chaarfm_worker::{FetchError, Fetched, Received, Source};
use tokio::io::{AsyncSeekExt, AsyncWriteExt};

use crate::{
    manners::Keeper,
    network::{Network, in_plain_words},
};

/// Downloads a file of exactly `bytes` bytes to a nameless temporary file, which disappears when it is closed. Calls
/// `progress` with the share that has arrived, 0 to 1. Pauses while the keeper forbids fetching; that does not count as
/// a stall.
pub(crate) async fn fetch(
    network: &Network,
    source: &Source,
    bytes: u64,
    keeper: &Keeper,
    scratch: &Scratch,
    progress: &dyn Fn(f32),
) -> Result<Fetched<File>, FetchError> {
    keeper.gate().fetching(|| progress(0.0)).await;
    let Source { url, lease } = source;
    let mut request = network.http(url).await?.get(url.clone());
    if let Some(lease) = lease {
        request = request.header(LEASE_HEADER, lease);
    }
    let mut response = request.send().await.map_err(broken)?;
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
        // A complete file need not wait.
        if fraction < 1.0 {
            keeper.gate().fetching(|| progress(fraction)).await;
        }
    }
    let content_hash = received.finish()?;
    file.flush().await.map_err(not_kept)?;
    file.seek(SeekFrom::Start(0)).await.map_err(not_kept)?;
    Ok(Fetched { audio: file.into_std().await, content_hash })
}

/// The error must not show the address, which may contain a storage's signature.
fn broken(error: reqwest::Error) -> FetchError {
    if is_not_allowed(&error) {
        return FetchError::NotAllowed;
    }
    FetchError::Broken(in_plain_words(&error.without_url()))
}

/// Whether the error comes from a host name that resolves to a forbidden address.
fn is_not_allowed(error: &(dyn Error + 'static)) -> bool {
    matches!(error.downcast_ref(), Some(FetchError::NotAllowed)) || error.source().is_some_and(is_not_allowed)
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

    use url::Url;

    use super::*;
    use crate::manners::Manners;

    static SCRATCH: LazyLock<Scratch> = LazyLock::new(Scratch::default);

    /// A file that is fetched by its address alone.
    fn unsigned(url: Url) -> Source {
        Source { url, lease: None }
    }

    /// Serves one response to one request.
    fn serve(response: &'static str) -> Url {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/a?signature=secret", listener.local_addr().unwrap());
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
        let network = Network::of_system(true).unwrap();
        let keeper = Keeper::idle(Manners::default());
        let mut fetched =
            fetch(&network, &unsigned(serve(response)), bytes, &keeper, &SCRATCH, &|fraction| share.set(fraction))
                .await?;
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
        let network = Network::of_system(true).unwrap();
        let url = format!("http://{address}/tunes/a%20b.mp3?X-Amz-Signature=0a%2F").parse().unwrap();
        let source = unsigned(url);
        let answer = fetch(&network, &source, 5, &Keeper::idle(Manners::default()), &SCRATCH, &|_| {}).await;
        assert_eq!(answer.unwrap_err(), FetchError::Status(302), "and goes where it was sent only");
        let request =
            format!("GET /tunes/a%20b.mp3?X-Amz-Signature=0a%2F HTTP/1.1\r\naccept: */*\r\nhost: {address}\r\n\r\n");
        assert_eq!(asked.join().unwrap(), request);
    }

    #[tokio::test]
    async fn names_the_status_but_never_the_address() {
        assert_eq!(get("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n", 5).await, Err(FetchError::Status(403)));
        let Err(FetchError::Broken(reason)) = get("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe", 5).await else {
            panic!("three bytes are missing");
        };
        assert!(!reason.contains("secret"), "{reason}");
    }

    #[tokio::test]
    async fn stands_still_where_nothing_may_be_fetched_and_counts_what_was() {
        let keeper = Keeper::idle(Manners { max_bytes_per_day: Some("2 B".parse().unwrap()), ..Manners::default() });
        let network = Network::of_system(true).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/a", listener.local_addr().unwrap()).parse().unwrap();
        let source = Source { url, lease: Some("token".into()) };
        let (rest, wanted) = mpsc::channel();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let length = stream.read(&mut request).unwrap();
            let request = String::from_utf8_lossy(&request[..length]);
            assert!(request.starts_with("GET /a HTTP/1.1\r\nx-chaarfm-lease: token\r\n"), "{request}");
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
        let mut fetched = fetch(&network, &source, 5, &keeper, &SCRATCH, &progress).await.unwrap();
        let mut text = String::new();
        fetched.audio.read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), &told.borrow()[..4]), ("hello", &[0.4, 0.4, 0.4, 1.0][..]));
        assert_eq!(keeper.overview().bytes_today, 5);
    }

    /// Fetches from `url` as a worker connected to a coordinator at `own`. Returns the error, if any, and whether a
    /// listener on the port was contacted.
    async fn try_from(url: &str, own: Option<&str>, allows_private: bool) -> (Option<FetchError>, bool) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let network = Network::of_system(allows_private).unwrap();
        if let Some(own) = own {
            let coordinator = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("ws://{own}:{}/x", coordinator.local_addr().unwrap().port()).parse().unwrap();
            let accept =
                async { tokio_tungstenite::accept_async(coordinator.accept().await.unwrap().0).await.unwrap() };
            let (socket, _) = tokio::join!(network.websocket(&url), accept);
            socket.unwrap();
        }
        let source = unsigned(url.replace("PORT", &port.to_string()).parse().unwrap());
        let (keeper, progress) = (Keeper::idle(Manners::default()), |_| {});
        let fetching = fetch(&network, &source, 5, &keeper, &SCRATCH, &progress);
        tokio::select! {
            fetched = fetching => (fetched.err(), false),
            _ = listener.accept() => (None, true),
        }
    }

    #[tokio::test]
    async fn private_addresses_are_not_fetched_from_whatever_they_are_called() {
        for url in [
            "http://127.0.0.1:PORT/x",
            "http://2130706433:PORT/x",
            "http://[::ffff:127.0.0.1]:PORT/x",
            "http://[::1]:PORT/x",
            "http://0.0.0.0:PORT/x",
            "http://localhost:PORT/x",
            "http://localhost.:PORT/x",
            "http://10.0.0.1:PORT/x",
            "http://192.168.0.1/x",
            "http://169.254.169.254/latest/meta-data",
            "http://100.64.0.1/x",
            "http://[fd00::1]/x",
            "http://[fe80::1]/x",
            "http://224.0.0.1/x",
        ] {
            assert_eq!(try_from(url, None, false).await, (Some(FetchError::NotAllowed), false), "{url}");
        }
        let reason = FetchError::NotAllowed.to_string();
        assert!(!reason.contains("127") && !reason.contains("private"), "{reason}");
    }

    #[tokio::test]
    async fn a_name_that_leads_inside_is_told_apart_from_nobody_there() {
        let network = Network::of_system(false).unwrap();
        let http = network.http(&"http://music.example".parse().unwrap()).await.unwrap();
        let error = http.get("http://localhost:9/x").send().await.unwrap_err();
        assert_eq!(broken(error), FetchError::NotAllowed);
    }

    #[tokio::test]
    async fn the_coordinators_own_host_is_fetched_from_and_private_ones_where_the_owner_allows_it() {
        assert_eq!(try_from("http://127.0.0.1:PORT/x", Some("127.0.0.1"), false).await, (None, true));
        assert_eq!(try_from("http://localhost:PORT/x", Some("localhost"), false).await, (None, true));
        let other = try_from("http://127.0.0.2:PORT/x", Some("127.0.0.1"), false).await;
        assert_eq!(other, (Some(FetchError::NotAllowed), false));
        assert_eq!(try_from("http://127.0.0.1:PORT/x", None, true).await, (None, true));
        assert_eq!(try_from("http://localhost:PORT/x", None, true).await, (None, true));
    }

    #[tokio::test]
    async fn a_redirection_leads_nowhere() {
        let inside = TcpListener::bind("127.0.0.1:0").unwrap();
        inside.set_nonblocking(true).unwrap();
        let location = format!("http://{}/x", inside.local_addr().unwrap());
        let answer = format!("HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n");
        assert_eq!(get(answer.leak(), 5).await, Err(FetchError::Status(302)));
        assert_eq!(inside.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock, "nobody came");
    }
}
