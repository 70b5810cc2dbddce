//! Tracks that were given up, and why.

use std::time::Duration;

use chaarfm_protocol::view::JobView;
use leptos::prelude::*;

use super::Control;
use crate::{
    api::{self, MAX_FAILED_JOBS_SHOWN},
    format,
    parts::{Notice, throttled},
};

/// The list is fetched at most this often while tracks fail.
const REFRESH_SECONDS: u64 = 2;

/// Tracks shown at first, and how many more each press brings.
const TRACKS_PER_PRESS: usize = 100;

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

/// Fetches the list only once somebody wants to see it.
#[component]
fn Disclosure(count: Memo<u64>) -> impl IntoView {
    let control = expect_context::<Control>();
    let is_open = RwSignal::new(false);
    let want = RwSignal::new(TRACKS_PER_PRESS);
    let calm_count = throttled(count, Duration::from_secs(REFRESH_SECONDS));
    let jobs = LocalResource::new(move || {
        calm_count.track();
        let code = is_open.get().then(|| control.code()).flatten();
        let want = want.get();
        async move {
            match code {
                Some(code) => api::failed_jobs(code, want).await,
                None => Ok(Vec::new()),
            }
        }
    });
    let has_more = move || {
        let shown = jobs.get().and_then(Result::ok).map_or(0, |jobs| jobs.len());
        shown >= want.get() && shown < MAX_FAILED_JOBS_SHOWN && count.get() > shown as u64
    };
    view! {
        <details class="card failed-card" id="failed" on:toggle:target=move |event| is_open.set(event.target().open())>
            <summary>
                <h2>
                    "Failed tracks" <span class="count count-failed">{move || format::grouped(count.get())}</span>
                </h2>
            </summary>
            {move || match jobs.get() {
                None => view! { <p class="hint">"Fetching…"</p> }.into_any(),
                Some(Err(error)) => view! { <Notice tone="error">{format::sentence(&error.to_string())}</Notice> }.into_any(),
                Some(Ok(jobs)) => {
                    view! {
                        <ul class="failed-list" tabindex="0" aria-label="Failed tracks">
                            {jobs.into_iter().map(failed_track).collect_view()}
                        </ul>
                    }
                        .into_any()
                }
            }}
            <Show when=has_more>
                <button type="button" class="quiet" on:click=move |_| want.update(|want| *want += TRACKS_PER_PRESS)>
                    "Show more"
                </button>
            </Show>
        </details>
    }
}

fn failed_track(job: JobView) -> impl IntoView {
    let reason = job.error.unwrap_or_else(|| "no reason was given".into());
    view! {
        <li>
            <p class="track">{job.track.label()}</p>
            <p class="reason">{reason}</p>
            <p class="hint">
                <span class="path">{job.track.file}</span>
                {(job.attempts > 1).then(|| format!(" · {} attempts", job.attempts))}
            </p>
        </li>
    }
}
