//! The address by which other machines reach this coordinator, to be printed and shown instead of a loopback address.
//!
//! Nothing is sent to find it: the system is asked which of its addresses it would send from. It is asked each time, as
//! machines change networks.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
};

use chaarfm_api::AdvertisedAddressView;
use chaarfm_protocol::KeyPin;
use socket2::SockRef;
use tokio::net::TcpListener;

/// Addresses reserved for documentation (RFC 5737, RFC 3849), which stand for the rest of the world.
const ELSEWHERE: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];

/// Address on which a coordinator listens.
#[derive(Debug, Clone)]
pub(crate) struct AdvertisedAddress {
    address: SocketAddr,
    takes_ipv4: bool,
    /// Public origin, if one is configured.
    public: Option<String>,
    /// Whether the coordinator itself uses TLS.
    has_tls: bool,
    /// Pin by which workers recognise a self-signed certificate.
    pin: Option<KeyPin>,
}

impl AdvertisedAddress {
    pub(crate) fn new(address: SocketAddr, takes_ipv4: bool, public: Option<String>) -> Self {
        Self { address, takes_ipv4, public, has_tls: false, pin: None }
    }

    /// The same address for a coordinator that uses TLS itself.
    pub(crate) fn with_tls(self, pin: Option<KeyPin>) -> Self {
        Self { has_tls: true, pin, ..self }
    }

    pub(crate) fn of(listener: &TcpListener, public: Option<String>) -> io::Result<Self> {
        let address = listener.local_addr()?;
        // An IPv6 socket accepts IPv4 as well, unless the system says otherwise.
        Ok(Self::new(address, address.is_ipv4() || !SockRef::from(listener).only_v6()?, public))
    }

    /// Whether only programs on this machine can connect; one of them may be a proxy.
    pub(crate) fn is_loopback_only(&self) -> bool {
        self.address.ip().to_canonical().is_loopback()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Origin for clients on the coordinator's own machine.
    pub(crate) fn origin_here(&self) -> String {
        let mut address = self.address;
        if address.ip().is_unspecified() {
            address.set_ip(if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
        }
        format!("{}://{address}", self.scheme())
    }

    /// Names and IP addresses by which clients on its own machine reach it, and the IP address for other machines.
    pub(crate) fn hosts(&self) -> Vec<String> {
        let here = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        let elsewhere = self.address_elsewhere().map(|address| address.ip());
        let mut numbers: Vec<IpAddr> = here.into_iter().chain(elsewhere).collect();
        numbers.dedup();
        std::iter::once("localhost".to_owned()).chain(numbers.iter().map(ToString::to_string)).collect()
    }

    fn scheme(&self) -> &'static str {
        if self.has_tls { "https" } else { "http" }
    }

    pub(crate) fn view(&self) -> AdvertisedAddressView {
        let pin = self.pin.map(|pin| pin.to_string());
        if let Some(public) = &self.public {
            return AdvertisedAddressView { loopback_only: false, origin: Some(public.clone()), pin };
        }
        let loopback_only = self.is_loopback_only();
        let elsewhere = if loopback_only { None } else { self.address_elsewhere() };
        let origin = elsewhere.map(|address| format!("{}://{address}", self.scheme()));
        AdvertisedAddressView { loopback_only, origin, pin }
    }

    fn address_elsewhere(&self) -> Option<SocketAddr> {
        if !self.address.ip().is_unspecified() {
            return Some(self.address);
        }
        // IPv4 first: its addresses are short, and home networks have them.
        let mut destinations =
            ELSEWHERE.into_iter().filter(|ip| if ip.is_ipv4() { self.takes_ipv4 } else { self.address.is_ipv6() });
        let ip = destinations.find_map(outgoing_address)?;
        Some(SocketAddr::new(ip, self.address.port()))
    }
}

/// This machine's source address for that destination; none if there is no route.
fn outgoing_address(destination: IpAddr) -> Option<IpAddr> {
    /// Any port works.
    const PORT: u16 = 9;
    let unspecified: IpAddr =
        if destination.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((unspecified, 0)).ok()?;
    socket.connect((destination, PORT)).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_unspecified() && !ip.is_loopback()).then_some(ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advertised(address: &str) -> AdvertisedAddress {
        AdvertisedAddress::new(address.parse().unwrap(), true, None)
    }

    #[test]
    fn loopback_is_for_this_machine_only() {
        for address in ["127.0.0.1:8080", "127.1.2.3:80", "[::1]:8080", "[::ffff:127.0.0.1]:8080"] {
            assert_eq!(
                advertised(address).view(),
                AdvertisedAddressView { loopback_only: true, ..Default::default() },
                "{address}"
            );
            assert_eq!(advertised(address).origin_here(), format!("http://{address}"));
        }
    }

    #[test]
    fn an_address_that_was_chosen_is_the_one_for_all() {
        let origin = "http://192.168.1.20:8080";
        let advertised = advertised("192.168.1.20:8080");
        assert_eq!(advertised.view(), AdvertisedAddressView { origin: Some(origin.into()), ..Default::default() });
        assert_eq!(advertised.origin_here(), origin);
    }

    #[test]
    fn the_public_address_goes_before_all() {
        let public = "https://music.example".to_owned();
        let advertised = AdvertisedAddress::new("127.0.0.1:8080".parse().unwrap(), true, Some(public.clone()));
        assert_eq!(advertised.view(), AdvertisedAddressView { origin: Some(public), ..Default::default() });
        assert_eq!(advertised.origin_here(), "http://127.0.0.1:8080");
    }

    #[test]
    fn all_addresses_are_the_one_that_goes_out() {
        let [out_4, out_6] = ELSEWHERE.map(outgoing_address);
        let origin = |ip: Option<IpAddr>| ip.map(|ip| format!("http://{}", SocketAddr::new(ip, 8080)));
        let shown =
            |address: &str, takes_ipv4| AdvertisedAddress::new(address.parse().unwrap(), takes_ipv4, None).view();
        let expected = |ip| AdvertisedAddressView { origin: origin(ip), ..Default::default() };
        assert_eq!(shown("0.0.0.0:8080", true), expected(out_4));
        assert_eq!(shown("[::]:8080", true), expected(out_4.or(out_6)));
        assert_eq!(shown("[::]:8080", false), expected(out_6));
        assert_eq!(advertised("0.0.0.0:8080").origin_here(), "http://127.0.0.1:8080");
        assert_eq!(advertised("[::]:8080").origin_here(), "http://[::1]:8080");
    }

    #[test]
    fn with_tls_its_addresses_begin_with_https() {
        let pin = KeyPin::from_hash([7; KeyPin::BYTES]);
        let advertised = advertised("192.168.1.20:8080").with_tls(Some(pin));
        assert_eq!(advertised.origin_here(), "https://192.168.1.20:8080");
        let view = advertised.view();
        assert_eq!(view.origin.as_deref(), Some("https://192.168.1.20:8080"));
        assert_eq!(view.pin, Some(pin.to_string()));
        assert_eq!(advertised.hosts(), ["localhost", "127.0.0.1", "::1", "192.168.1.20"]);
    }

    #[tokio::test]
    async fn a_listener_says_whether_it_takes_version_4() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        assert!(AdvertisedAddress::of(&listener, None).unwrap().takes_ipv4);
        // The machine may lack IPv6.
        if let Ok(listener) = TcpListener::bind("[::]:0").await {
            let advertised = AdvertisedAddress::of(&listener, None).unwrap();
            let way_in = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, advertised.address().port()));
            assert_eq!(way_in.is_ok(), advertised.takes_ipv4);
        }
    }
}
