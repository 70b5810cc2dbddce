//! The connected workers, and what each is doing.

use chaarfm_api::WorkerView;
use chaarfm_domain::Standing;
use chaarfm_protocol::WorkerKind;
use leptos::prelude::*;

use super::Control;
use crate::{
    api, format,
    parts::{Bar, ConfirmButton, DeviceBadge, Notice},
};

#[component]
pub(crate) fn Workers() -> impl IntoView {
    let control = expect_context::<Control>();
    // An older coordinator does not send a count.
    let count = control.pick(|view| view.worker_count.max(view.workers.len() as u64));
    let shown = control.pick(|view| view.workers.iter().map(|worker| worker.id).collect::<Vec<_>>());
    // The coordinator omits some if there are very many.
    let left_out = move || count.get().saturating_sub(shown.with(Vec::len) as u64);
    let set_aside = control.pick(|view| {
        let set_aside = view.workers.iter().filter(|worker| worker.standing == Standing::SetAside);
        format::set_aside(&set_aside.map(|worker| worker.id).collect::<Vec<_>>())
    });
    view! {
        <section class="card">
            <h2>
                "Workers" <span class="count" id="worker-count">{move || format::grouped(count.get())}</span>
            </h2>
            {move || {
                set_aside
                    .get()
                    .map(|sentence| {
                        view! {
                            <Notice tone="warning">
                                <span id="set-aside">{sentence}</span>
                            </Notice>
                        }
                    })
            }}
            <Show
                when=move || { count.get() > 0 }
                fallback=|| {
                    view! {
                        <p class="empty" id="no-workers">
                            <strong>"No worker is connected."</strong>
                            " Open the join link on any machine, scan the QR code with a phone, or run the native worker’s command."
                        </p>
                    }
                }
            >
                <ul class="workers" id="workers">
                    <For each=move || shown.get() key=|id| *id let:id>
                        <Worker id />
                    </For>
                </ul>
                <Show when=move || { left_out() > 0 }>
                    <p class="hint" id="workers-left-out">{move || format!("and {} more", format::grouped(left_out()))}</p>
                </Show>
            </Show>
        </section>
    }
}

#[component]
fn Worker(id: u64) -> impl IntoView {
    let control = expect_context::<Control>();
    let worker = control.pick(move |view| view.workers.iter().find(|worker| worker.id == id).cloned());
    let part = move |part: fn(&WorkerView) -> String| {
        move || worker.with(|worker| worker.as_ref().map(part).unwrap_or_default())
    };
    let current = Memo::new(move |_| worker.with(|worker| worker.as_ref().and_then(|worker| worker.current.clone())));
    let percent = Signal::derive(move || {
        current.with(|current| current.as_ref().map_or(0, |current| format::percent(current.fraction)))
    });
    let kind = Memo::new(move |_| worker.with(|worker| worker.as_ref().map(|worker| worker.kind)));
    let device = Memo::new(move |_| worker.with(|worker| worker.as_ref().map(|worker| worker.device.clone())));
    let standing = Memo::new(move |_| worker.with(|worker| worker.as_ref().map(|worker| worker.standing)));
    let trial = Memo::new(move |_| worker.with(|worker| format::trial(&worker.as_ref()?.trial)));
    // An older coordinator sends no keys.
    let key =
        Memo::new(move |_| worker.with(|worker| worker.as_ref().map(|worker| worker.key.clone()).unwrap_or_default()));
    let can_be_discarded = move || standing.get() != Some(Standing::SetAside) && key.with(|key| !key.is_empty());
    let discard = move || {
        if let Some(code) = control.code() {
            control.wish(async move { api::discard_worker(code, &key.get_untracked()).await });
        }
    };
    let has_failed = move || worker.with(|worker| worker.as_ref().is_some_and(|worker| worker.failed > 0));
    view! {
        <li class="worker">
            {move || kind.get().map(kind_icon)}
            <div class="worker-who">
                {move || device.get().map(|device| view! { <DeviceBadge device /> })}
                <span class="hint">{part(|worker| format!("worker {} · {}", worker.id, worker.agent))}</span>
                {move || trial.get().map(|line| view! { <span class="hint worker-trial">{line}</span> })}
                {move || standing.get().and_then(standing_badge)}
            </div>
            <p class="worker-score">
                <span>{part(|worker| format!("{} done", format::grouped(worker.done)))}</span>
                <Show when=has_failed>
                    <span class="failed">{part(|worker| format!("{} failed", format::grouped(worker.failed)))}</span>
                </Show>
            </p>
            <Show
                when=move || current.with(Option::is_some)
                fallback=move || view! { <p class="worker-current hint">{move || standing.get().map(waits_for)}</p> }
            >
                <div class="worker-current">
                    <p class="track">{move || current.get().map(|current| current.label)}</p>
                    <p class="track-stage">
                        <span>{move || current.get().map(|current| format::stage(current.stage))}</span>
                        <span>{move || format!("{} %", percent.get())}</span>
                    </p>
                    <Bar percent label="Progress of this worker’s track" />
                </div>
            </Show>
            <Show when=can_be_discarded>
                <ConfirmButton
                    id=format!("discard-{id}")
                    label="Discard its work"
                    question="Set this worker aside? It gets no more tracks in this session. All that it has delivered is deleted \
                    and done again by others."
                    yes="Discard it"
                    no="Keep it"
                    on_yes=move |()| discard()
                    disabled=Signal::derive(move || control.is_blocked())
                />
            </Show>
        </li>
    }
}

/// Shown only for a worker that gets no tracks.
fn standing_badge(standing: Standing) -> Option<impl IntoView> {
    let (name, class) = match standing {
        Standing::Good => return None,
        Standing::OnProbation => ("On probation", "badge badge-paused"),
        Standing::SetAside => ("Set aside", "badge badge-bad"),
    };
    Some(view! { <span class=class>{name}</span> })
}

/// What a worker without a track is waiting for.
fn waits_for(standing: Standing) -> &'static str {
    match standing {
        Standing::Good => "Waiting for a track",
        Standing::OnProbation => "Waiting until others have tried what it failed",
        Standing::SetAside => "Gets no more tracks in this session",
    }
}

/// Icon of a terminal or a browser window.
fn kind_icon(kind: WorkerKind) -> impl IntoView {
    let (name, inside) = match kind {
        WorkerKind::Native => ("Native worker", "M7 10l3 2.5L7 15M12 15.5h5"),
        WorkerKind::Browser => ("Browser tab", "M3 9h18M6 6.7h.01M8.6 6.7h.01"),
    };
    view! {
        <svg class="kind-icon" viewBox="0 0 24 24" role="img" aria-label=name>
            <title>{name}</title>
            <rect x="3" y="4.5" width="18" height="15" rx="3" />
            <path d=inside />
        </svg>
    }
}
