//! Asks a coordinator whether it does its work, for containers whose image has nothing else that could ask.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// Longest wait for each step of the answer.
const LIMIT_SECONDS: u64 = 2;

/// How an answer begins that says so.
const HEALTHY: &[u8] = b"HTTP/1.1 200 ";

/// Asks the coordinator that listens at the address.
///
/// # Errors
/// Says what is wrong: nobody answers, or not with 200.
pub fn healthcheck(address: SocketAddr) -> io::Result<()> {
    let answer =
        ask(address).map_err(|error| io::Error::new(error.kind(), format!("{address} does not answer: {error}")))?;
    if answer != HEALTHY {
        let answer = String::from_utf8_lossy(&answer);
        return Err(io::Error::other(format!("{address} answers {}", answer.trim())));
    }
    Ok(())
}

/// The beginning of the answer.
fn ask(address: SocketAddr) -> io::Result<[u8; HEALTHY.len()]> {
    let limit = Duration::from_secs(LIMIT_SECONDS);
    let mut connection = TcpStream::connect_timeout(&address, limit)?;
    connection.set_read_timeout(Some(limit))?;
    connection.set_write_timeout(Some(limit))?;
    // In one piece: a server that answers after the first piece may have closed the connection before the next one.
    connection
        .write_all(format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = [0; HEALTHY.len()];
    connection.read_exact(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, thread};

    use super::*;

    /// The answer of something that listens and says this.
    fn asked(answer: &'static [u8]) -> io::Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let other = thread::spawn(move || {
            let (mut connection, _) = listener.accept().unwrap();
            let _ = connection.read(&mut [0; 256]).unwrap();
            connection.write_all(answer).unwrap();
        });
        let asked = healthcheck(address);
        other.join().unwrap();
        asked
    }

    #[test]
    fn only_the_right_answer_is_healthy() {
        asked(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        assert!(asked(b"HTTP/1.1 503 Service Unavailable\r\n\r\n").unwrap_err().to_string().contains("503"));
        assert!(asked(b"").unwrap_err().to_string().contains("does not answer"));
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(healthcheck(free).is_err());
    }
}
