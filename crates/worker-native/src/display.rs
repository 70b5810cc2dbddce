//! What a joining worker shows, and the display for terminals: one screen, or else plain lines on standard error. The
//! desktop program's page is another display (`page/board.rs`).

use std::{
    cell::RefCell,
    io::{IsTerminal, Write, stderr},
    time::Duration,
};

use chaarfm_domain::LogLevel;
use chaarfm_protocol::{Device, SessionState, Stage, Trial, limits::MAX_JOBS_PER_WORKER, text::printable};
use chaarfm_worker::{Event, JobStatus, Phase, Status};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::manners::State;

/// Steps of a bar.
const BAR_LENGTH: u64 = 1000;

/// Interval between two steps of the spinner.
const SPIN: Duration = Duration::from_millis(120);

/// Where the events of all lanes are shown.
pub(crate) trait Display {
    /// Shows an event of a lane.
    fn show(&self, lane: usize, event: Event<'_>);

    /// Shows whether the machine may work.
    fn show_state(&self, state: &State);
}

/// The display of a program that is started in a terminal.
pub(crate) enum Terminal {
    /// Lines that change in place.
    Screen(Screen),
    /// One line after the other, for what is no terminal.
    Lines,
}

impl Terminal {
    /// A screen with this many lanes if standard error is a terminal, unless plain lines are wanted.
    pub(crate) fn new(plain: bool, lanes: usize) -> Self {
        if plain || !stderr().is_terminal() { Self::Lines } else { Self::Screen(Screen::new(lanes)) }
    }

    /// Removes the screen, if there is one, and shows how the worker ended.
    pub(crate) fn end(&self, line: &str) {
        if let Self::Screen(screen) = self {
            screen.bars.clear().unwrap_or_default();
        }
        write_line(line);
    }
}

impl Display for Terminal {
    /// A screen omits log lines that repeat what it already shows.
    fn show(&self, lane: usize, event: Event<'_>) {
        match (self, event) {
            (Self::Screen(screen), Event::Status(status)) => screen.show(lane, status),
            (Self::Screen(screen), Event::Log(LogLevel::Warning | LogLevel::Error, line)) => screen.note(line),
            (Self::Lines, Event::Log(_, line)) => write_line(line),
            (Self::Screen(_), Event::Log(..)) | (Self::Lines, Event::Status(_)) => {}
        }
    }

    fn show_state(&self, state: &State) {
        match self {
            Self::Screen(screen) => {
                screen.manners.set_message(if *state == State::Running { String::new() } else { capitalised(state) });
            }
            Self::Lines => write_line(&state.to_string()),
        }
    }
}

/// Writes a line, and ignores errors: a closed terminal or pipe must not end the work, as `eprintln!` would.
pub(crate) fn write_line(line: &str) {
    writeln!(stderr(), "{}", printable(line)).unwrap_or_default();
}

/// One line group for each lane, and the totals of all.
pub(crate) struct Screen {
    bars: MultiProgress,
    manners: ProgressBar,
    lanes: Vec<LaneLines>,
    totals: ProgressBar,
}

/// Lines for the state, the device and the tracks of a lane.
struct LaneLines {
    state: ProgressBar,
    device: ProgressBar,
    tracks: [ProgressBar; MAX_JOBS_PER_WORKER as usize],
    record: RefCell<Record>,
}

/// The totals of a lane, across all openings of its device.
#[derive(Debug)]
pub(crate) struct Record {
    last: Status,
    /// Tracks done and failed before the device was last opened.
    earlier: (u64, u64),
}

impl Record {
    /// The record of a new lane.
    pub(crate) fn new() -> Self {
        Self { last: Status::starting(), earlier: (0, 0) }
    }

    /// Adds a status of the lane.
    pub(crate) fn note(&mut self, status: &Status) {
        if status.done < self.last.done || status.failed < self.last.failed {
            self.earlier = (self.earlier.0 + self.last.done, self.earlier.1 + self.last.failed);
        }
        self.last = status.clone();
    }

    /// The status last added.
    pub(crate) fn last(&self) -> &Status {
        &self.last
    }

    /// Tracks done and failed in total, and the current tracks a minute.
    pub(crate) fn achieved(&self) -> (u64, u64, f32) {
        let ((done, failed), last) = (self.earlier, &self.last);
        let rate = if matches!(last.phase, Phase::Stopped { .. }) { 0.0 } else { last.tracks_per_minute };
        (done + last.done, failed + last.failed, rate)
    }
}

impl Screen {
    fn new(lanes: usize) -> Self {
        let bars = MultiProgress::new();
        let line = |template: &str| {
            let style = ProgressStyle::with_template(template).expect("the templates of this file are well-formed");
            bars.add(ProgressBar::new(BAR_LENGTH).with_style(style.progress_chars("━╸ ")))
        };
        let manners = line("{wide_msg}");
        let lane = |_| {
            let state = line("{spinner} {wide_msg}");
            state.enable_steady_tick(SPIN);
            LaneLines {
                state,
                device: line("  {wide_msg}"),
                tracks: std::array::from_fn(|_| line("  {bar:20} {percent:>3} %  {wide_msg}")),
                record: RefCell::new(Record::new()),
            }
        };
        let lanes = (0..lanes).map(lane).collect();
        Self { manners, lanes, totals: line("  {wide_msg}"), bars }
    }

    fn show(&self, lane: usize, status: &Status) {
        let lines = &self.lanes[lane];
        lines.state.set_message(state(status));
        lines.device.set_message(device(status.device.as_ref(), &status.trial));
        for (i, bar) in lines.tracks.iter().enumerate() {
            let (fraction, message) = status.jobs.get(i).map_or((0.0, String::new()), track);
            bar.set_position((fraction * BAR_LENGTH as f32) as u64);
            bar.set_message(message);
        }
        lines.record.borrow_mut().note(status);
        self.totals.set_message(totals(self.lanes.iter().map(|lane| lane.record.borrow().achieved())));
    }

    fn note(&self, line: &str) {
        // A line that cannot be written is lost; there is no other place to report that.
        self.bars.println(printable(line)).unwrap_or_default();
    }
}

/// A lane's connection state, in words.
pub(crate) fn state(status: &Status) -> String {
    match &status.phase {
        Phase::Starting => "Starting".to_owned(),
        Phase::Connecting => "Connecting".to_owned(),
        Phase::Connected => match status.session {
            Some(SessionState::Paused) => "Connected; the session is paused".to_owned(),
            Some(SessionState::Complete) if status.jobs.is_empty() => "Connected; all tracks are done".to_owned(),
            _ if status.jobs.is_empty() => "Connected; waiting for a track".to_owned(),
            _ => "Connected".to_owned(),
        },
        Phase::BackingOff { seconds, reason } => printable(&format!("Next try in {seconds:.0} s: {reason}")),
        Phase::Stopping => "Handing back what is not finished".to_owned(),
        Phase::Stopped { .. } => "Stopped".to_owned(),
    }
}

/// The device in use, the measured rates, and why the GPU was not chosen.
pub(crate) fn device(device: Option<&Device>, trial: &Trial) -> String {
    let Some(Device { backend, name }) = device else { return String::new() };
    let reasons = [trial.note.clone(), trial.speeds.in_words()].into_iter().flatten();
    let reasons: String = reasons.map(|reason| format!("; {reason}")).collect();
    printable(&format!("Computing on {backend} ({name}){reasons}"))
}

fn capitalised(state: &State) -> String {
    let words = state.to_string();
    words[..1].to_uppercase() + &words[1..]
}

fn track(job: &JobStatus) -> (f32, String) {
    let stage = match job.stage {
        Stage::Fetching => "fetching",
        Stage::Waiting => "waiting",
        Stage::Analysing => "analysing",
    };
    (job.fraction, printable(&format!("{stage}  {}", job.label)))
}

/// The sum of all lanes: tracks done and failed, and tracks a minute.
pub(crate) fn sum(lanes: impl Iterator<Item = (u64, u64, f32)>) -> (u64, u64, f32) {
    lanes.fold((0, 0, 0.0), |(done, failed, rate), lane| (done + lane.0, failed + lane.1, rate + lane.2))
}

fn totals(lanes: impl Iterator<Item = (u64, u64, f32)>) -> String {
    let (done, failed, rate) = sum(lanes);
    format!("{done} done · {failed} failed · {rate:.1} tracks a minute")
}

#[cfg(test)]
mod tests {
    use chaarfm_protocol::Speeds;

    use super::*;

    #[test]
    fn tags_cannot_take_over_the_terminal() {
        let job = JobStatus { label: "\u{1b}[2J\rA\u{202e}B".into(), stage: Stage::Analysing, fraction: 0.5 };
        assert_eq!(track(&job), (0.5, "analysing  \u{fffd}[2J\u{fffd}A\u{fffd}B".into()));
    }

    #[test]
    fn says_where_it_stands() {
        let mut status = Status::starting();
        assert_eq!((state(&status).as_str(), device(None, &Trial::default()).as_str()), ("Starting", ""));
        status.phase = Phase::Connected;
        status.session = Some(SessionState::Complete);
        assert_eq!(state(&status), "Connected; all tracks are done");
        status.phase = Phase::BackingOff { seconds: 3.2, reason: "gone".into() };
        assert_eq!(state(&status), "Next try in 3 s: gone");
        assert_eq!(totals([(2, 1, 1.5), (3, 0, 0.0)].into_iter()), "5 done · 1 failed · 1.5 tracks a minute");
        let cpu = Device { backend: "flex".into(), name: "CPU".into() };
        let none = Trial { note: Some("no usable GPU".into()), ..Trial::default() };
        assert_eq!(device(Some(&cpu), &none), "Computing on flex (CPU); no usable GPU");
        let speeds = Speeds { cpu: Some(412.4), gpu: Some(9.5), both: None };
        let slow = Trial { speeds, note: Some("faster than Old Card".into()) };
        let line = "Computing on flex (CPU); faster than Old Card; CPU 412, GPU 9.5 patches a second";
        assert_eq!(device(Some(&cpu), &slow), line);
    }
}
