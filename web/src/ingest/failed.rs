//! The failed tracks, the reasons, and the owner's means to retry them.

use std::time::Duration;

use chaarfm_api::JobView;
use chaarfm_protocol::JobId;
use leptos::prelude::*;

use super::Control;
use crate::{
    api::{self, MAX_FAILED_JOBS_SHOWN},
    format,
    parts::{Notice, focus_moves_on, focus_on, throttled},
};

/// Shortest interval between fetches of the list while tracks fail.
const REFRESH_SECONDS: u64 = 2;

/// Tracks shown at first, and how many more each press brings.
const TRACKS_PER_PRESS: usize = 100;

/// Formats of the list as a file.
const FORMATS: [&str; 2] = ["csv", "jsonl"];

#[component]
pub(crate) fn FailedTracks() -> impl IntoView {
    let control = expect_context::<Control>();
    let count = control.pick(|view| view.counts.failed);
    view! {
        <Show when=move || { count.get() > 0 }>
            <Disclosure count />
        </Show>
    }
}

/// The tracks that the owner wants to retry.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    All,
    One(JobId),
}

/// A command to retry tracks.
#[derive(Clone, Copy)]
struct Retry {
    control: Control,
    /// The tracks it is about, while it is being sent.
    wanted: RwSignal<Option<Wanted>>,
    /// Why it failed.
    problem: RwSignal<Option<String>>,
    /// Incremented with every answer, since the list has changed then.
    answers: RwSignal<u32>,
}

impl Retry {
    fn ask(self, wanted: Wanted) {
        let Some(code) = self.control.code().filter(|_| self.control.may_wish()) else { return };
        self.wanted.set(Some(wanted));
        self.problem.set(None);
        let job = match wanted {
            Wanted::All => None,
            Wanted::One(job) => Some(job),
        };
        self.control.wish_and(api::retry(code, job), move |problem| {
            // When no failed tracks are left, the list disappears and its signals are dropped.
            self.wanted.try_set(None);
            if problem.is_none() {
                // The button disappears together with its track.
                focus_on("failed-list");
            }
            self.problem.try_set(problem);
            self.answers.try_update(|answers| *answers += 1);
        });
    }
}

/// Fetches the list only when it is opened.
#[component]
fn Disclosure(count: Memo<u64>) -> impl IntoView {
    let control = expect_context::<Control>();
    let retry = Retry { control, wanted: RwSignal::new(None), problem: RwSignal::new(None), answers: RwSignal::new(0) };
    let is_open = RwSignal::new(false);
    let want = RwSignal::new(TRACKS_PER_PRESS);
    let calm_count = throttled(count, Duration::from_secs(REFRESH_SECONDS));
    let jobs = LocalResource::new(move || {
        calm_count.track();
        retry.answers.track();
        let code = is_open.get().then(|| control.code()).flatten();
        let want = want.get();
        async move {
            match code {
                Some(code) => api::failed_jobs(code, want).await,
                None => Ok(Vec::new()),
            }
        }
    });
    let listed = Memo::new(move |_| jobs.get().and_then(Result::ok).unwrap_or_default());
    let fetch_problem = Memo::new(move |_| {
        let error = jobs.get().and_then(Result::err)?;
        Some(format::sentence(&error.to_string()))
    });
    let problem = move || retry.problem.get().or_else(|| fetch_problem.get());
    let is_cut = move || count.get() > listed.with(Vec::len) as u64;
    let has_more = move || {
        let shown = listed.with(Vec::len);
        shown >= want.get() && shown < MAX_FAILED_JOBS_SHOWN && is_cut()
    };
    let can_retry = move || is_cut() || listed.with(|jobs| jobs.iter().any(is_retryable));
    focus_moves_on("#failed", "state-line");
    view! {
        <details class="card disclosure" id="failed" on:toggle:target=move |event| is_open.set(event.target().open())>
            <summary>
                <h2>
                    "Failed tracks" <span class="count count-failed">{move || format::grouped(count.get())}</span>
                </h2>
            </summary>
            <div class="disclosure-actions">
                <Show when=can_retry>
                    <RetryButton retry wanted=Wanted::All label="Try all again" />
                </Show>
                <Downloads />
            </div>
            {move || problem().map(|problem| view! { <Notice tone="error">{problem}</Notice> })}
            <Show when=move || jobs.get().is_none()>
                <p class="hint">"Fetching…"</p>
            </Show>
            <Show when=move || listed.with(|jobs| !jobs.is_empty())>
                <ul class="records" id="failed-list" tabindex="0" aria-label="Failed tracks">
                    <For
                        each=move || listed.get()
                        key=|job| (job.id, job.attempts, job.error.clone())
                        children=move |job| failed_track(job, retry)
                    />
                </ul>
            </Show>
            <Show when=has_more>
                <button type="button" class="quiet" on:click=move |_| want.update(|want| *want += TRACKS_PER_PRESS)>
                    "Show more"
                </button>
            </Show>
        </details>
    }
}

fn failed_track(job: JobView, retry: Retry) -> impl IntoView {
    let tries = format::tries(job.attempts, job.worker);
    let button = is_retryable(&job).then(|| {
        view! { <RetryButton retry wanted=Wanted::One(job.id) label="Try again" /> }
    });
    let reason = job.error.unwrap_or_else(|| "no reason was given".into());
    view! {
        <li>
            <p class="track">{job.track.label()}</p>
            <p class="reason">{reason}</p>
            <p class="hint">
                <span class="path">{job.track.file}</span>
                {format!(" · {tries}")}
            </p>
            {button}
        </li>
    }
}

/// Shows when it is busy. Results appear in the list, errors above it.
#[component]
fn RetryButton(retry: Retry, wanted: Wanted, label: &'static str) -> impl IntoView {
    let is_at_work = move || retry.wanted.get() == Some(wanted);
    view! {
        <button
            type="button"
            class="quiet retry"
            on:click=move |_| retry.ask(wanted)
            aria-disabled=move || retry.control.is_blocked().to_string()
            aria-busy=move || is_at_work().to_string()
        >
            {move || if is_at_work() { "Queueing…" } else { label }}
        </button>
    }
}

/// Downloads of the complete list, not only the part shown.
#[component]
fn Downloads() -> impl IntoView {
    let control = expect_context::<Control>();
    let code = control.pick(|view| Some(view.code));
    let link = move |format: &'static str| {
        let address = move || code.get().map(|code| api::failed_jobs_export_url(code, format));
        let label = format!("Download the failed tracks as {format}");
        view! { <a class="download" href=address aria-label=label download>{format}</a> }
    };
    view! {
        <p class="downloads">
            <span class="hint">"The list as"</span>
            {FORMATS.map(link).into_iter().collect_view()}
        </p>
    }
}

/// Whether a worker may try the track again.
fn is_retryable(job: &JobView) -> bool {
    job.worker.is_some()
}
