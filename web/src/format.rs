//! Formats numbers for people, and computes the parts of a progress bar. Pure functions.

use chaarfm_api::WaitingView;
use chaarfm_domain::{Counts, limits::MAX_WAITING_COUNTED};
use chaarfm_protocol::{
    Device, Stage, Trial, WorkerKind,
    limits::{MAX_AUDIO_BYTES, MAX_AUDIO_BYTES_IN_TAB},
};

/// Parts of a session's progress bar in percent; their sum is 100, or 0 when there is nothing.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Shares {
    pub(crate) done: f64,
    pub(crate) skipped: f64,
    pub(crate) failed: f64,
    pub(crate) leased: f64,
    pub(crate) queued: f64,
}

impl Shares {
    /// Skipped files count as finished work.
    pub(crate) fn of(counts: &Counts) -> Self {
        let all = counts.total() + counts.skipped;
        if all == 0 {
            return Self::default();
        }
        let percent = |part: u64| part as f64 * 100.0 / all as f64;
        Self {
            done: percent(counts.done),
            skipped: percent(counts.skipped),
            failed: percent(counts.failed),
            leased: percent(counts.leased),
            queued: percent(counts.queued),
        }
    }

    /// Finished work, including failures, in whole percent; 100 only when nothing is open.
    pub(crate) fn finished_percent(&self) -> u8 {
        let open = self.leased + self.queued;
        if open > 0.0 {
            (100.0 - open).floor().clamp(0.0, 99.0) as u8
        } else if *self == Self::default() {
            0
        } else {
            100
        }
    }
}

/// A fraction of 0 to 1 in whole percent; tolerates any value from a peer.
pub(crate) fn percent(fraction: f32) -> u8 {
    if fraction.is_finite() { (fraction.clamp(0.0, 1.0) * 100.0).round() as u8 } else { 0 }
}

/// Time for `open` tracks at this rate; none if the rate is zero.
pub(crate) fn time_left(open: u64, tracks_per_minute: f32) -> Option<String> {
    if open == 0 || !tracks_per_minute.is_finite() || tracks_per_minute <= 0.0 {
        return None;
    }
    let minutes = open as f64 / f64::from(tracks_per_minute);
    Some(if minutes < 1.0 {
        "less than a minute left".into()
    } else if minutes < 59.5 {
        format!("about {minutes:.0} min left")
    } else if minutes < 24.0 * 60.0 - 5.0 {
        let in_fives = (minutes / 5.0).round() as u64 * 5;
        match (in_fives / 60, in_fives % 60) {
            (hours, 0) => format!("about {hours} h left"),
            (hours, rest) => format!("about {hours} h {rest} min left"),
        }
    } else {
        format!("about {} left", counted((minutes / (24.0 * 60.0)).round() as u64, "day", "days"))
    })
}

/// A rate as text, such as `7.5 tracks a minute`; none if it is zero.
pub(crate) fn rate(tracks_per_minute: f32) -> Option<String> {
    if !tracks_per_minute.is_finite() || tracks_per_minute <= 0.0 {
        None
    } else if tracks_per_minute < 9.95 {
        Some(format!("{tracks_per_minute:.1} tracks a minute"))
    } else {
        Some(format!("{} tracks a minute", grouped(tracks_per_minute.round() as u64)))
    }
}

/// Why queued tracks are not given to any worker, one sentence for each reason.
pub(crate) fn waiting(waiting: &WaitingView) -> Vec<String> {
    let at_least = if waiting.too_large + waiting.retried < MAX_WAITING_COUNTED { "" } else { "At least " };
    let tracks = |count| format!("{at_least}{}", counted(count, "track", "tracks"));
    let mut reasons = Vec::new();
    if waiting.too_large > 0 {
        let (is, them) = if waiting.too_large == 1 { ("is", "it") } else { ("are", "them") };
        let place = if waiting.max_bytes == MAX_AUDIO_BYTES_IN_TAB { " in a browser tab" } else { "" };
        let mut reason = format!(
            "{} {is} larger than any connected worker takes ({}{place})",
            tracks(waiting.too_large),
            bytes(waiting.max_bytes)
        );
        // A native worker accepts every size.
        if waiting.max_bytes < MAX_AUDIO_BYTES {
            reason += &format!("; a native worker can do {them}");
        }
        reasons.push(reason + ".");
    }
    if waiting.retried > 0 {
        let when = soon(waiting.next_try_seconds);
        reasons.push(match waiting.retried {
            1 => format!("{} failed and is tried again {when}.", tracks(1)),
            more => format!("{} failed and are tried again; the next one {when}.", tracks(more)),
        });
    }
    reasons
}

/// A short time in words.
fn soon(seconds: u64) -> String {
    match seconds {
        0 => "in a moment".into(),
        1..=90 => format!("in {}", counted(seconds, "second", "seconds")),
        _ => format!("in {}", counted((seconds + 30) / 60, "minute", "minutes")),
    }
}

/// A file size in the usual units.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) if bytes.is_multiple_of(unit) => format!("{} {name}", bytes / unit),
        Some((unit, name)) => format!("{:.1} {name}", bytes as f64 / unit as f64),
        None => counted(bytes, "byte", "bytes"),
    }
}

/// A number with narrow spaces between thousands.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 2);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// A number with its noun.
pub(crate) fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", grouped(number), if number == 1 { one } else { many })
}

/// Turns a reason from the coordinator or a worker into a sentence.
pub(crate) fn sentence(reason: &str) -> String {
    let mut letters = reason.trim_end_matches('.').chars();
    let first = letters.next().map(char::to_uppercase).into_iter().flatten();
    first.chain(letters.as_str().chars()).chain(['.']).collect()
}

/// How a worker's device was chosen; none if there was no choice.
pub(crate) fn trial(trial: &Trial) -> Option<String> {
    let parts: Vec<_> = [trial.note.clone(), trial.speeds.in_words()].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| sentence(&parts.join("; ")))
}

/// A track's stage, in words.
pub(crate) fn stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Fetching => "Fetching",
        Stage::Waiting => "Next in line",
        Stage::Analysing => "Listening",
    }
}

/// How often a failed track was tried, and by whom last. A file that could not be read never reached a worker.
pub(crate) fn tries(attempts: u32, last: Option<WorkerKind>) -> String {
    let last = match last {
        None => return "only another scan of the library can look at this file again".into(),
        Some(WorkerKind::Native) => "a native worker had it last",
        Some(WorkerKind::Browser) => "a browser tab had it last",
    };
    match attempts {
        // A failure caused by the file itself is final, and not counted as an attempt.
        0 => format!("given up at once; {last}"),
        _ => format!("given up after {}; {last}", counted(attempts.into(), "attempt", "attempts")),
    }
}

/// Which workers are set aside, and what that means; none if no worker is.
pub(crate) fn set_aside(numbers: &[u64]) -> Option<String> {
    let (last, others) = numbers.split_last()?;
    if others.is_empty() {
        let fate = "is set aside: it gets no more tracks in this session. Others do the tracks that it failed.";
        return Some(format!("Worker {last} {fate}"));
    }
    let others: Vec<_> = others.iter().map(u64::to_string).collect();
    let fate = "are set aside: they get no more tracks in this session. Others do the tracks that they failed.";
    Some(format!("Workers {} and {last} {fate}", others.join(", ")))
}

/// The kind of processor that a backend uses.
pub(crate) fn processor(device: &Device) -> &'static str {
    if device.backend == "wgpu" { "GPU" } else { "CPU" }
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn shares_make_a_whole() {
        let counts = Counts { queued: 3, leased: 2, done: 10, failed: 1, skipped: 4, alike: 1 };
        let shares = Shares::of(&counts);
        assert_eq!(shares, Shares { done: 50.0, skipped: 20.0, failed: 5.0, leased: 10.0, queued: 15.0 });
        assert_eq!(shares.finished_percent(), 75);
    }

    #[test]
    fn nothing_is_no_progress() {
        assert_eq!(Shares::of(&Counts::default()), Shares::default());
        assert_eq!(Shares::default().finished_percent(), 0);
    }

    #[test]
    fn a_hundred_percent_means_nothing_is_open() {
        let nearly = Counts { leased: 1, done: 99_999, ..Counts::default() };
        assert_eq!(Shares::of(&nearly).finished_percent(), 99);
        let all = Counts { done: 7, failed: 2, ..Counts::default() };
        assert_eq!(Shares::of(&all).finished_percent(), 100);
    }

    #[test]
    fn fractions_of_peers_stay_in_the_bar() {
        assert_eq!([-1.0, 0.0, 0.504, 1.0, 7.0, f32::NAN].map(percent), [0, 0, 50, 100, 100, 0]);
    }

    #[test]
    fn time_left_is_rounded_to_what_is_known() {
        assert_eq!(time_left(0, 5.0), None);
        assert_eq!(time_left(5, 0.0), None);
        assert_eq!(time_left(5, f32::NAN), None);
        let text = |open, rate| time_left(open, rate).unwrap();
        assert_eq!(text(5, 10.0), "less than a minute left");
        assert_eq!(text(34, 10.0), "about 3 min left");
        assert_eq!(text(599, 10.0), "about 1 h left");
        assert_eq!(text(1_313, 10.0), "about 2 h 10 min left");
        assert_eq!(text(14_399, 10.0), "about 1 day left");
        assert_eq!(text(72_000, 10.0), "about 5 days left");
    }

    #[test]
    fn what_is_too_large_for_all_says_who_can_do_it() {
        let reasons = |too_large, max_bytes| waiting(&WaitingView { too_large, max_bytes, ..WaitingView::default() });
        let two = "2 tracks are larger than any connected worker takes (256 MiB in a browser tab); a native worker can do them.";
        assert_eq!(reasons(2, MAX_AUDIO_BYTES_IN_TAB), [two]);
        let one = "1 track is larger than any connected worker takes (1.5 MiB); a native worker can do it.";
        assert_eq!(reasons(1, 3 << 19), [one]);
        let many = reasons(MAX_WAITING_COUNTED, MAX_AUDIO_BYTES);
        assert_eq!(many, ["At least 1\u{202f}000 tracks are larger than any connected worker takes (2 GiB)."]);
    }

    #[test]
    fn what_is_tried_again_says_when() {
        let reasons = |retried, next_try_seconds| {
            waiting(&WaitingView { retried, next_try_seconds, ..WaitingView::default() }).concat()
        };
        assert_eq!(reasons(3, 115), "3 tracks failed and are tried again; the next one in 2 minutes.");
        assert_eq!(reasons(1, 30), "1 track failed and is tried again in 30 seconds.");
        assert_eq!(reasons(1, 1), "1 track failed and is tried again in 1 second.");
        assert_eq!(reasons(0, 0), "");
        let both = WaitingView { too_large: 1, max_bytes: 1000, retried: 1, next_try_seconds: 600 };
        assert_eq!(waiting(&both).len(), 2);
    }

    #[test]
    fn a_failed_track_says_who_has_tried_it() {
        assert_eq!(tries(0, Some(WorkerKind::Native)), "given up at once; a native worker had it last");
        assert_eq!(tries(3, Some(WorkerKind::Browser)), "given up after 3 attempts; a browser tab had it last");
        assert!(tries(0, None).contains("another scan"));
    }

    #[test]
    fn who_is_set_aside_is_named() {
        assert_eq!(set_aside(&[]), None);
        assert!(set_aside(&[7]).unwrap().starts_with("Worker 7 is set aside"));
        assert!(set_aside(&[7, 9, 12]).unwrap().starts_with("Workers 7, 9 and 12 are set aside"));
    }

    #[test]
    fn reasons_become_sentences() {
        assert_eq!(sentence("no session has this code"), "No session has this code.");
        assert_eq!(sentence("Done."), "Done.");
        assert_eq!(sentence("’tis odd"), "’tis odd.");
    }

    #[test]
    fn rates_and_counts_read_well() {
        assert_eq!(rate(0.0), None);
        assert_eq!(rate(7.46).unwrap(), "7.5 tracks a minute");
        assert_eq!(rate(1234.0).unwrap(), "1\u{202f}234 tracks a minute");
        assert_eq!(counted(1, "track", "tracks"), "1 track");
        assert_eq!(counted(1_234_567, "track", "tracks"), "1\u{202f}234\u{202f}567 tracks");
    }
}
