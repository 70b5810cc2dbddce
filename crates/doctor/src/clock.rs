//! Compares this computer's clock with another one.

use std::time::{Duration, SystemTime};

use crate::Check;

/// From this difference on, certificates and signed URLs are treated as expired or not yet valid.
const HARMFUL: Duration = Duration::from_secs(5 * 60);

/// Parses the `Date` header of an HTTP response (RFC 9110, section 6.6.1).
#[must_use]
pub fn http_date(date: &str) -> Option<SystemTime> {
    httpdate::parse_http_date(date).ok()
}

/// Compares this computer's clock at `now` with `theirs`, read at the same moment; a difference up to `tolerance` is fine.
#[must_use]
pub fn clock(whose: &str, theirs: Option<SystemTime>, now: SystemTime, tolerance: Duration) -> Check {
    const NAME: &str = "clock";
    let Some(theirs) = theirs else {
        let found = format!("the {whose} does not tell the time");
        return Check::warning(NAME, found, "compare this computer's clock with one that you trust");
    };
    let (apart, way) = match now.duration_since(theirs) {
        Ok(ahead) => (ahead, "ahead of"),
        Err(behind) => (behind.duration(), "behind"),
    };
    if apart <= tolerance {
        return Check::ok(NAME, format!("agrees with the {whose}'s to within {} s", tolerance.as_secs()));
    }
    let found = format!("this computer's is {} {way} the {whose}'s", in_words(apart));
    let advice = format!(
        "one of the two is wrong: have the system set this computer's by the network, and tell who runs the {whose}"
    );
    if apart < HARMFUL { Check::warning(NAME, found, advice) } else { Check::failed(NAME, found, advice) }
}

fn in_words(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::State;

    #[test]
    fn says_which_clock_is_ahead_and_by_how_much() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let at = |seconds: i64| {
            let moment = 1_700_000_000_u64.checked_add_signed(seconds).unwrap();
            let check = clock(
                "server",
                Some(SystemTime::UNIX_EPOCH + Duration::from_secs(moment)),
                now,
                Duration::from_secs(30),
            );
            (check.state, check.found)
        };
        assert_eq!(at(20).0, State::Ok);
        assert_eq!(at(-20).0, State::Ok);
        assert_eq!(at(60), (State::Warning, "this computer's is 60 s behind the server's".into()));
        assert_eq!(at(-3 * 3600), (State::Failed, "this computer's is 3 h ahead of the server's".into()));
        assert_eq!(at(400 * 86_400), (State::Failed, "this computer's is 400 days behind the server's".into()));
        assert_eq!(clock("server", None, now, Duration::ZERO).state, State::Warning);
        assert_eq!(http_date("Tue, 14 Nov 2023 22:13:20 GMT"), Some(now));
        assert_eq!(http_date("yesterday"), None);
    }
}
