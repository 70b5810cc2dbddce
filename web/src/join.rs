//! The browser worker's page: a code, a button, and what the Web Worker says of itself.

use chaarfm_protocol::{PairingCode, SessionState, Stage, view::LogLine};
use chaarfm_worker::{JobStatus, Phase, Status};
use leptos::{ev::SubmitEvent, prelude::*};
use leptos_router::{
    NavigateOptions,
    hooks::{use_navigate, use_params_map, use_query_map},
};

use crate::{
    format,
    lending::{Lending, Step, Tally},
    parts::{Bar, DeviceBadge, Log, page_title},
    web_worker::DeviceWish,
};

#[component]
pub(crate) fn Join() -> impl IntoView {
    let lending = expect_context::<Lending>();
    page_title(move || title(&headline(&lending.step.get(), lending.status.get().as_ref()), lending.tally().done));
    view! {
        <section class="narrow join">
            <h1>"Lend this machine"</h1>
            <Show when=move || lending.step.with(|step| *step != Step::Idle)>
                <Run lending />
            </Show>
            <Show when=move || !lending.is_active()>
                <CodeForm lending />
            </Show>
            <Show when=move || lending.log.with(|log| !log.is_empty())>
                <Log
                    lines=Signal::derive(move || lending.log.with(|log| log.iter().cloned().collect::<Vec<LogLine>>()))
                    empty="Nothing yet."
                />
            </Show>
        </section>
    }
}

/// Asks for the code; the address may have brought it along.
#[component]
fn CodeForm(lending: Lending) -> impl IntoView {
    let params = use_params_map();
    let query = use_query_map();
    let navigate = use_navigate();
    let earlier = lending.begun_with.get_untracked();
    let code = params.read_untracked().get("code").or(earlier.map(|(code, _)| code.to_string())).unwrap_or_default();
    let code = RwSignal::new(code);
    let wish = query.read_untracked().get("device").and_then(|name| DeviceWish::named(&name));
    let device = RwSignal::new(wish.or(earlier.map(|(_, wish)| wish)).unwrap_or(DeviceWish::Auto));
    // Nobody is told off for a code that is still being typed.
    let asked = RwSignal::new(!code.read_untracked().is_empty());
    let problem = Memo::new(move |_| {
        if asked.get() {
            code.with(|code| code.parse::<PairingCode>().err().map(|error| format::sentence(&error.to_string())))
        } else {
            None
        }
    });
    let join = move |event: SubmitEvent| {
        event.prevent_default();
        asked.set(true);
        let Ok(parsed) = code.with_untracked(|code| code.parse::<PairingCode>()) else { return };
        lending.start(parsed, device.get_untracked());
        // A reload then finds the code where a join link has it.
        let search = match device.get_untracked() {
            DeviceWish::Auto => String::new(),
            wish => format!("?device={}", wish.name()),
        };
        let options = NavigateOptions { replace: true, scroll: false, ..NavigateOptions::default() };
        navigate(&format!("/join/{parsed}{search}"), options);
    };
    view! {
        <form class="card code-form" on:submit=join novalidate>
            <p class="lead">
                "Enter the code from the control page. This tab then fetches tracks, listens to them and sends each one’s \
                 vector back. Close it whenever you like: its track goes to somebody else."
            </p>
            <label for="code">"Pairing code"</label>
            <div class="code-row">
                <input
                    id="code"
                    class="code-input"
                    type="text"
                    placeholder="K7Q-M4X-WDP"
                    autocomplete="off"
                    autocapitalize="characters"
                    spellcheck="false"
                    maxlength="40"
                    prop:value=code
                    on:input:target=move |event| code.set(event.target().value())
                    aria-invalid=move || problem.with(Option::is_some).to_string()
                    aria-describedby="code-problem"
                />
                <p id="code-problem" class="field-problem" role="alert">{problem}</p>
                <button id="join" type="submit" class="button">"Join"</button>
            </div>
            <details class="advanced" prop:open=device.get_untracked() != DeviceWish::Auto>
                <summary>"Advanced"</summary>
                <label for="device">"Compute on"</label>
                <select
                    id="device"
                    on:change:target=move |event| {
                        device.set(DeviceWish::named(&event.target().value()).unwrap_or(DeviceWish::Auto));
                    }
                >
                    {DeviceWish::ALL
                        .map(|wish| {
                            let label = match wish {
                                DeviceWish::Auto => "Choose for me: the GPU where it computes correctly",
                                DeviceWish::Gpu => "GPU (WebGPU)",
                                DeviceWish::Cpu => "CPU",
                            };
                            view! {
                                <option value=wish.name() selected=move || device.get() == wish>{label}</option>
                            }
                        })
                        .into_iter()
                        .collect_view()}
                </select>
                <Show when=|| !window().is_secure_context()>
                    <p class="hint">
                        "This page came over plain HTTP, and browsers offer their GPU only to https pages and to localhost: \
                         here the CPU will do the work."
                    </p>
                </Show>
            </details>
        </form>
    }
}

/// The run: under way or over.
#[component]
fn Run(lending: Lending) -> impl IntoView {
    let headline =
        Memo::new(move |_| lending.status.with(|status| lending.step.with(|step| headline(step, status.as_ref()))));
    let status = lending.status;
    let jobs = move |nth: usize| {
        Memo::new(move |_| status.with(|status| status.as_ref().and_then(|status| status.jobs.get(nth).cloned())))
    };
    let (current, next) = (jobs(0), jobs(1));
    let device = Memo::new(move |_| status.with(|status| status.as_ref().and_then(|status| status.device.clone())));
    let note = Memo::new(move |_| status.with(|status| status.as_ref().and_then(|status| status.device_note.clone())));
    let tracks_per_minute = move || {
        let rate = status.with(|status| status.as_ref().map_or(0.0, |status| status.tracks_per_minute));
        if rate.is_finite() && rate > 0.0 { format!("{rate:.1}") } else { "–".into() }
    };
    view! {
        <section class="card run" id="run" data-step=move || lending.step.with(Step::name)>
            <div class=move || format!("now now-{}", headline.with(|line| line.mood.name()))>
                <span class="pulse" aria-hidden="true">
                    <i></i>
                    <i></i>
                    <i></i>
                    <i></i>
                </span>
                <p class="headline" id="headline" role="status">{move || headline.get().text}</p>
            </div>
            {move || current.get().map(|_| view! { <CurrentTrack job=current /> })}
            <p class="up-next" class:hidden=move || next.with(Option::is_none)>
                "Up next: "
                {move || next.get().map(|job| next_text(&job))}
            </p>
            <dl class="tiles" class:hidden=move || !lending.is_active() && lending.tally() == Tally::default()>
                <div>
                    <dt>"Done"</dt>
                    <dd id="done">{move || format::grouped(lending.tally().done)}</dd>
                </div>
                <div class:has-failed=move || { lending.tally().failed > 0 }>
                    <dt>"Failed"</dt>
                    <dd id="failed">{move || format::grouped(lending.tally().failed)}</dd>
                </div>
                <div>
                    <dt>"Per minute"</dt>
                    <dd>{tracks_per_minute}</dd>
                </div>
            </dl>
            <div class="run-foot" class:hidden=move || !lending.is_active()>
                <div class="run-device" id="device-used">
                    {move || device.get().map(|device| view! { <DeviceBadge device /> })}
                    {move || note.get().map(|note| view! { <p class="hint">{note}</p> })}
                </div>
                <button
                    id="stop"
                    type="button"
                    class="quiet"
                    on:click=move |_| lending.stop()
                    disabled=move || lending.step.with(|step| *step == Step::Stopping)
                >
                    "Stop"
                </button>
            </div>
            <Show when=move || lending.is_active()>
                <p class="hint">
                    "Other tabs may be used meanwhile. On a phone keep this one in front: phones halt tabs in the background."
                </p>
            </Show>
        </section>
    }
}

#[component]
fn CurrentTrack(job: Memo<Option<JobStatus>>) -> impl IntoView {
    let percent = Signal::derive(move || job.with(|job| job.as_ref().map_or(0, |job| format::percent(job.fraction))));
    view! {
        <div class="current">
            <p class="track" id="current">{move || job.get().map(|job| job.label)}</p>
            <div class="current-bar">
                <Bar percent label="Progress of this track" />
                <span>{move || format!("{} %", percent.get())}</span>
            </div>
        </div>
    }
}

fn next_text(job: &JobStatus) -> String {
    match job.stage {
        Stage::Fetching => format!("{} (fetching, {} %)", job.label, format::percent(job.fraction)),
        Stage::Waiting | Stage::Analysing => job.label.clone(),
    }
}

/// How the run feels; decides colour and motion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    /// A track is being worked on.
    Busy,
    /// Nothing to do at the moment, or on the way there.
    Waiting,
    /// Something is in the way.
    Trouble,
    /// It is over.
    Resting,
}

impl Mood {
    fn name(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Waiting => "waiting",
            Self::Trouble => "trouble",
            Self::Resting => "resting",
        }
    }
}

/// The run in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Headline {
    mood: Mood,
    text: String,
}

impl Step {
    /// For style and tests.
    fn name(&self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Loading => "loading",
            Self::Working => "working",
            Self::Stopping => "stopping",
            Self::Over { .. } => "over",
        }
    }
}

fn headline(step: &Step, status: Option<&Status>) -> Headline {
    let (mood, text) = match (step, status) {
        (Step::Idle, _) => (Mood::Resting, "Ready when you are.".into()),
        (Step::Loading, _) => (Mood::Waiting, "Loading the listening program…".into()),
        (Step::Stopping, _) => (Mood::Waiting, "Stopping: handing back what is held…".into()),
        (Step::Over { reason: Some(reason) }, _) => (Mood::Trouble, format::sentence(reason)),
        (Step::Over { reason: None }, _) => (Mood::Resting, "Stopped. Thank you for lending a hand.".into()),
        (Step::Working, None) => (Mood::Waiting, "Getting ready…".into()),
        (Step::Working, Some(status)) => work_line(status),
    };
    Headline { mood, text }
}

fn work_line(status: &Status) -> (Mood, String) {
    match &status.phase {
        Phase::Starting => (Mood::Waiting, "Getting ready: loading the model and trying out the device…".into()),
        Phase::Connecting => (Mood::Waiting, "Connecting…".into()),
        Phase::BackingOff { seconds, reason } => (
            Mood::Trouble,
            format!("Connection lost ({}). Trying again in {:.0} s.", reason.trim_end_matches('.'), seconds.max(1.0)),
        ),
        Phase::Stopping => (Mood::Waiting, "Stopping: handing back what is held…".into()),
        Phase::Stopped { .. } => (Mood::Resting, "Stopped.".into()),
        Phase::Connected => {
            if let Some(job) = status.jobs.first() {
                return (Mood::Busy, format::stage(job.stage).into());
            }
            let text = match status.session {
                Some(SessionState::Paused) => "The owner has paused. It goes on by itself.",
                Some(SessionState::Complete) => {
                    "Every track is done. Thank you! You can close this tab, or stay for more."
                }
                Some(SessionState::Ended) => "The owner has ended this session.",
                Some(SessionState::Idle) => "Connected. The owner has not chosen any music yet.",
                Some(SessionState::Running) | None => "Connected. Waiting for a track…",
            };
            (Mood::Waiting, text.into())
        }
    }
}

/// What the browser's tab says while the page is behind others.
fn title(headline: &Headline, done: u64) -> String {
    match headline.mood {
        Mood::Busy => format!("♪ {} done – ChaarFM Worker", format::grouped(done)),
        Mood::Trouble => "⚠ Needs a look – ChaarFM Worker".into(),
        Mood::Waiting => "Waiting – ChaarFM Worker".into(),
        Mood::Resting => "Join – ChaarFM Worker".into(),
    }
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    fn connected(session: SessionState, jobs: Vec<JobStatus>) -> Status {
        Status {
            phase: Phase::Connected,
            device: None,
            device_note: None,
            session: Some(session),
            jobs,
            done: 0,
            failed: 0,
            tracks_per_minute: 0.0,
        }
    }

    fn job() -> JobStatus {
        JobStatus { label: "A – T".into(), stage: Stage::Analysing, fraction: 0.5 }
    }

    #[test]
    fn the_headline_tells_a_paused_session_from_a_lost_connection() {
        let paused = headline(&Step::Working, Some(&connected(SessionState::Paused, vec![])));
        assert_eq!(paused.mood, Mood::Waiting);
        assert!(paused.text.contains("paused"), "{}", paused.text);

        let phase = Phase::BackingOff { seconds: 4.2, reason: "the server is silent.".into() };
        let lost = headline(&Step::Working, Some(&Status { phase, ..connected(SessionState::Running, vec![]) }));
        assert_eq!(lost.mood, Mood::Trouble);
        assert_eq!(lost.text, "Connection lost (the server is silent). Trying again in 4 s.");
    }

    #[test]
    fn a_job_finished_during_a_pause_is_still_work() {
        let line = headline(&Step::Working, Some(&connected(SessionState::Paused, vec![job()])));
        assert_eq!(line.mood, Mood::Busy);
    }

    #[test]
    fn stopping_wins_over_what_the_worker_last_said() {
        let line = headline(&Step::Stopping, Some(&connected(SessionState::Running, vec![job()])));
        assert!(line.text.starts_with("Stopping"), "{}", line.text);
    }
}
