//! Failed connections in plain words, with advice.

use std::{error::Error, io};

use rustls::{AlertDescription, CertificateError, InvalidMessage};

use super::distrust::Distrust;

/// Why something could not be reached: the first cause that has plain words, or else all causes in the libraries'
/// words.
pub(crate) fn in_plain_words(error: &(dyn Error + 'static)) -> String {
    let causes = causes(error);
    let plain = causes
        .iter()
        .find_map(|cause| cause.downcast_ref().map(of_tls))
        .or_else(|| causes.iter().find_map(|cause| of_the_client(&cause.to_string())))
        .or_else(|| causes.iter().find_map(|cause| of_the_system(cause.downcast_ref()?)));
    plain.unwrap_or_else(|| {
        let mut words: Vec<String> = Vec::new();
        for cause in causes.iter().map(ToString::to_string) {
            // Some errors repeat their cause.
            if !words.iter().any(|word| word.ends_with(&cause)) {
                words.push(cause);
            }
        }
        words.join(": ")
    })
}

/// An error and its causes. `source()` of an I/O error skips the error inside it.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> Vec<&'a (dyn Error + 'static)> {
    let inside = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    let next = inside.map(|inside| inside as &(dyn Error + 'static)).or_else(|| error.source());
    let mut all = vec![error];
    all.extend(next.map(causes).unwrap_or_default());
    all
}

fn of_tls(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::Other(other)) => match other.0.downcast_ref::<Distrust>() {
            Some(distrust) => distrust.to_string(),
            None => error.to_string(),
        },
        rustls::Error::InvalidMessage(
            InvalidMessage::InvalidContentType
            | InvalidMessage::UnknownProtocolVersion
            | InvalidMessage::MessageTooLarge,
        ) => "what answers there speaks no TLS: if it is a coordinator without, its address begins with http://"
            .to_owned(),
        rustls::Error::PeerIncompatible(_)
        | rustls::Error::AlertReceived(AlertDescription::ProtocolVersion | AlertDescription::HandshakeFailure) => {
            format!("the server and this program have no kind of TLS in common (here it is 1.2 and 1.3): {error}")
        }
        rustls::Error::AlertReceived(AlertDescription::UnrecognisedName) => {
            "the server knows no host of that name: is the address right?".to_owned()
        }
        rustls::Error::FailedToGetCurrentTime => "this computer's clock cannot be read: set it".to_owned(),
        other => format!("TLS failed: {other}"),
    }
}

/// Errors of the HTTP library; it distinguishes them only by their texts.
fn of_the_client(text: &str) -> Option<String> {
    let words = match text {
        "dns error" => {
            "nobody knows a host of that name: is it written correctly, and is this computer connected to the network?"
        }
        "tunnel error: proxy authorization required" => {
            "the proxy wants a name and a password: they stand in its address, as in http://name:password@proxy:3128"
        }
        "tunnel error: unsuccessful" => "the proxy does not let this program through to that host and port",
        "tunnel error: unexpected end of file" => "the proxy hung up: is it one for HTTP?",
        _ => return None,
    };
    Some(words.to_owned())
}

/// Errors of the system for which there is a better text.
fn of_the_system(error: &io::Error) -> Option<String> {
    let words = match error.kind() {
        io::ErrorKind::ConnectionRefused => "nothing listens there: is it running, and are address and port right?",
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => {
            "there is no way there: is this computer connected to the network?"
        }
        io::ErrorKind::TimedOut => "nobody answers there: is the address right, and does a firewall let it through?",
        io::ErrorKind::UnexpectedEof => "it hung up in the middle of the greeting: is it a coordinator, and with TLS?",
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => "the connection broke",
        _ => return None,
    };
    Some(words.to_owned())
}
