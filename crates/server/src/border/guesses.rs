//! Slows down guessing of pairing codes: the more wrong codes an address sends, the longer it waits for each further
//! answer.
//!
//! Right codes do not count, so any number of workers may join from one address. An address that has sent wrong codes waits
//! for the answer to a right one too, or an immediate answer would reveal that the code is right.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    extract::{Request, State},
    http::HeaderMap,
    middleware::Next,
    response::Response,
};
use ipnet::IpNet;
use tokio::time::{Instant, sleep};

use super::{
    connections::{Peer, network_of},
    hosts::{Hosts, asked_host},
};

/// Number of wrong codes from an address that cause no delay: people mistype.
const FREE_WRONG_CODES: u32 = 10;

/// Delay after the first wrong code beyond the free ones. It doubles with each further one.
const FIRST_DELAY_MILLIS: u64 = 250;

/// Longest delay, well below a worker's time limit for its welcome.
const MAX_DELAY_MILLIS: u64 = 5000;
const _: () = assert!(MAX_DELAY_MILLIS < chaarfm_protocol::limits::HANDSHAKE_TIMEOUT_SECONDS * 1000 * 3 / 4);

/// An address's wrong codes are forgotten when it has sent none for this long.
const FORGIVEN_AFTER_SECONDS: u64 = 600;

/// Delayed requests of one address at a time; further ones are refused.
const MAX_WAITING_PER_ADDRESS: u32 = 32;

/// Delayed requests at a time in total.
const MAX_WAITING: usize = 1024;

/// Wrong codes per minute, of all addresses together, from which on none are free and each delay is the longest.
const MAX_WRONG_CODES_PER_MINUTE: u32 = 600;

/// Number of addresses remembered. An IPv6 address stands for the network of one customer.
const MAX_ADDRESSES: usize = 65_536;

const MINUTE: Duration = Duration::from_secs(60);

/// Origin of a request, as far as it can be determined.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Client {
    pub(crate) address: IpAddr,
    /// Whether the request came encrypted, up to the proxy or to this process.
    pub(crate) has_tls: bool,
}

/// A code is refused without being checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many wrong codes have come from this address; try again later")]
pub(crate) struct TooManyGuesses;

/// Wrong codes by address, and the requests that are delayed.
#[derive(Debug, Default)]
pub(crate) struct Guesses {
    known: Mutex<Known>,
    waiting: AtomicUsize,
}

#[derive(Debug, Default)]
struct Known {
    addresses: HashMap<IpAddr, Guesser>,
    /// Start of the current minute, and the number of wrong codes in it.
    minute: Option<(Instant, u32)>,
    /// Time of the last removal of forgotten addresses, which is slow.
    swept: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Guesser {
    wrong: u32,
    last: Instant,
    waiting: u32,
}

impl Guesses {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits as long as this address has to before its code is checked.
    ///
    /// # Errors
    /// When too many requests are waiting already.
    pub(crate) async fn wait(&self, client: IpAddr) -> Result<(), TooManyGuesses> {
        let client = network_of(client);
        let delay = self.known().delay(client, Instant::now());
        if delay.is_zero() {
            return Ok(());
        }
        let _waits = Waits::begin(self, client).ok_or(TooManyGuesses)?;
        sleep(delay).await;
        Ok(())
    }

    /// Records that a code from this address was wrong.
    pub(crate) fn wrong(&self, client: IpAddr) {
        self.known().wrong(network_of(client), Instant::now());
    }
}

impl Known {
    fn delay(&self, client: IpAddr, now: Instant) -> Duration {
        let is_flooded =
            self.minute.is_some_and(|(begun, wrong)| now - begun < MINUTE && wrong >= MAX_WRONG_CODES_PER_MINUTE);
        let wrong = self.addresses.get(&client).filter(|guesser| !guesser.is_forgiven(now)).map_or(0, |own| own.wrong);
        let millis = match wrong.checked_sub(FREE_WRONG_CODES) {
            _ if wrong > 0 && is_flooded => MAX_DELAY_MILLIS,
            None | Some(0) => 0,
            Some(counted) => FIRST_DELAY_MILLIS.saturating_mul(1 << (counted - 1).min(32)).min(MAX_DELAY_MILLIS),
        };
        Duration::from_millis(millis)
    }

    fn wrong(&mut self, client: IpAddr, now: Instant) {
        let (begun, wrong) = self.minute.filter(|(begun, _)| now - *begun < MINUTE).unwrap_or((now, 0));
        self.minute = Some((begun, wrong.saturating_add(1)));
        if self.addresses.len() >= MAX_ADDRESSES && !self.addresses.contains_key(&client) {
            if self.swept.is_none_or(|at| now - at >= MINUTE) {
                self.swept = Some(now);
                self.addresses.retain(|_, guesser| guesser.waiting > 0 || !guesser.is_forgiven(now));
            }
            // This many addresses at once are a flood, during which none of them needs an entry: all delays are the
            // longest.
            if self.addresses.len() >= MAX_ADDRESSES {
                return;
            }
        }
        let guesser = self.addresses.entry(client).or_insert(Guesser { wrong: 0, last: now, waiting: 0 });
        let before = if guesser.is_forgiven(now) { 0 } else { guesser.wrong };
        (guesser.wrong, guesser.last) = (before.saturating_add(1), now);
    }
}

impl Guesser {
    fn is_forgiven(&self, now: Instant) -> bool {
        now - self.last >= Duration::from_secs(FORGIVEN_AFTER_SECONDS)
    }
}

/// A delayed request, until dropped.
struct Waits<'a> {
    guesses: &'a Guesses,
    client: IpAddr,
}

impl<'a> Waits<'a> {
    fn begin(guesses: &'a Guesses, client: IpAddr) -> Option<Self> {
        let mut known = guesses.known();
        let guesser = known.addresses.get_mut(&client)?;
        if guesser.waiting >= MAX_WAITING_PER_ADDRESS || guesses.waiting.load(Ordering::Relaxed) >= MAX_WAITING {
            return None;
        }
        guesser.waiting += 1;
        guesses.waiting.fetch_add(1, Ordering::Relaxed);
        Some(Self { guesses, client })
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        if let Some(guesser) = self.guesses.known().addresses.get_mut(&self.client) {
            guesser.waiting -= 1;
        }
        self.guesses.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Data for [`note_client`].
#[derive(Debug, Clone)]
pub(crate) struct Guard {
    pub(crate) guesses: Arc<Guesses>,
    pub(crate) trusted_proxies: Vec<IpNet>,
}

/// Attaches the [`Client`] to each request.
pub(crate) async fn note_client(
    State((guard, hosts)): State<(Guard, Hosts)>,
    mut request: Request,
    next: Next,
) -> Response {
    if let Some(&Peer { address: peer, has_tls }) = request.extensions().get::<Peer>() {
        let headers = request.headers();
        let is_proxy = guard.is_trusted(&peer.to_canonical());
        let came_by = headers.get("x-forwarded-proto").filter(|_| is_proxy);
        let host = asked_host(headers, request.uri().authority()).ok().flatten();
        let has_tls = came_by.map_or_else(|| has_tls || hosts.has_tls(host), |scheme| scheme == "https");
        let client = Client { address: guard.client(headers, peer), has_tls };
        request.extensions_mut().insert(client);
    }
    next.run(request).await
}

impl Guard {
    fn is_trusted(&self, ip: &IpAddr) -> bool {
        self.trusted_proxies.iter().any(|proxies| proxies.contains(ip))
    }

    /// Address of the client: the last one in the proxies' headers that does not belong to a trusted proxy.
    fn client(&self, headers: &HeaderMap, peer: IpAddr) -> IpAddr {
        let said: Vec<_> = headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok()).collect();
        let mut way = said.iter().rev().flat_map(|value| value.rsplit(','));
        let mut client = peer;
        while self.is_trusted(&client) {
            let before = way.next().and_then(|said| said.trim().trim_matches(['[', ']']).parse::<IpAddr>().ok());
            let Some(before) = before else { break };
            client = before.to_canonical();
        }
        client
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn address(last: u8) -> IpAddr {
        Ipv4Addr::new(192, 0, 2, last).into()
    }

    fn guess(known: &mut Known, client: IpAddr, times: u32, now: Instant) {
        (0..times).for_each(|_| known.wrong(client, now));
    }

    #[test]
    fn the_wait_grows_with_each_wrong_code_and_ends() {
        let (mut known, now) = (Known::default(), Instant::now());
        guess(&mut known, address(1), FREE_WRONG_CODES, now);
        assert_eq!(known.delay(address(1), now), Duration::ZERO);
        let delays: Vec<_> = (0..7)
            .map(|_| {
                known.wrong(address(1), now);
                known.delay(address(1), now).as_millis()
            })
            .collect();
        assert_eq!(delays, [250, 500, 1000, 2000, 4000, 5000, 5000]);
        assert_eq!(known.delay(address(2), now), Duration::ZERO, "others are not meant");
        let later = now + Duration::from_secs(FORGIVEN_AFTER_SECONDS);
        assert_eq!(known.delay(address(1), later), Duration::ZERO);
        known.wrong(address(1), later);
        assert_eq!(known.delay(address(1), later), Duration::ZERO, "it begins anew");
    }

    #[test]
    fn many_addresses_together_are_a_flood() {
        let (mut known, now) = (Known::default(), Instant::now());
        for last in 0..100 {
            guess(&mut known, address(last), MAX_WRONG_CODES_PER_MINUTE / 100, now);
        }
        assert_eq!(known.delay(address(7), now), Duration::from_millis(MAX_DELAY_MILLIS));
        assert_eq!(known.delay(address(200), now), Duration::ZERO, "who has not guessed is let in");
        assert_eq!(known.delay(address(7), now + MINUTE), Duration::ZERO);
    }

    #[test]
    fn what_is_remembered_of_addresses_is_bounded() {
        let (mut known, now) = (Known::default(), Instant::now());
        for index in 0..MAX_ADDRESSES as u32 + 10 {
            known.wrong(Ipv4Addr::from_bits(index).into(), now);
        }
        assert_eq!(known.addresses.len(), MAX_ADDRESSES);
        known.wrong(address(1), now + Duration::from_secs(FORGIVEN_AFTER_SECONDS));
        assert_eq!(known.addresses.len(), 1);
    }

    #[tokio::test]
    async fn so_many_of_an_address_wait_and_no_more() {
        let guesses = Guesses::default();
        (0..=FREE_WRONG_CODES).for_each(|_| guesses.wrong(address(1)));
        let waits: Vec<_> = (0..MAX_WAITING_PER_ADDRESS).map_while(|_| Waits::begin(&guesses, address(1))).collect();
        assert_eq!(waits.len(), MAX_WAITING_PER_ADDRESS as usize);
        assert_eq!(guesses.wait(address(1)).await, Err(TooManyGuesses));
        assert_eq!(guesses.wait(address(2)).await, Ok(()));
        drop(waits);
        let begun = Instant::now();
        assert_eq!(guesses.wait(address(1)).await, Ok(()));
        assert!(begun.elapsed() >= Duration::from_millis(FIRST_DELAY_MILLIS));
        assert_eq!(guesses.waiting.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn only_trusted_proxies_say_where_a_request_came_from() {
        let trusted_proxies = ["10.0.0.0/8", "::1/128"].iter().map(|text| text.parse().unwrap()).collect();
        let guard = Guard { guesses: Arc::default(), trusted_proxies };
        let from = |peer: &str, said: &[&str]| {
            let mut headers = HeaderMap::new();
            for said in said {
                headers.append("x-forwarded-for", said.parse().unwrap());
            }
            guard.client(&headers, peer.parse().unwrap()).to_string()
        };
        assert_eq!(from("192.0.2.1", &["198.51.100.7"]), "192.0.2.1");
        assert_eq!(from("10.1.1.1", &["203.0.113.9, 198.51.100.7"]), "198.51.100.7");
        assert_eq!(from("10.1.1.1", &["203.0.113.9", "198.51.100.7, 10.2.2.2"]), "198.51.100.7");
        assert_eq!(from("::1", &["[2001:db8::7]"]), "2001:db8::7");
        assert_eq!(from("10.1.1.1", &[]), "10.1.1.1");
        assert_eq!(from("10.1.1.1", &["nonsense"]), "10.1.1.1");
    }
}
