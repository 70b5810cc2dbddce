//! The control page: shows the newest [`SessionView`] of one session and passes on the owner's commands.

mod audit;
mod collections;
mod failed;
mod invitations;
mod invite;
mod run;
mod source;
mod workers;

use std::{future::Future, time::Duration};

use chaarfm_api::{InvitationView, SessionView};
use chaarfm_protocol::{PairingCode, SessionState};
use leptos::{prelude::*, task::spawn_local};

use crate::{
    api::{self, ApiError},
    events::SessionEvents,
    format::{self, Shares},
    parts::{ConfirmButton, Log, Notice, focus_moves_on, focus_on, page_title},
};
use audit::Audit;
use collections::Collections;
use failed::FailedTracks;
use invitations::Invitations;
use invite::Invite;
use run::RunCard;
use source::{Begun, Choice};
use workers::Workers;

/// Wait before the next attempt to reach the coordinator.
const RETRY_WAIT_SECONDS: u64 = 3;

/// The page's connection to the coordinator: the latest view, and the connection's state.
#[derive(Clone, Copy)]
pub(crate) struct Control {
    /// None until the coordinator's first answer.
    view: RwSignal<Option<SessionView>>,
    /// Why there is currently no connection.
    lost: RwSignal<Option<String>>,
    /// The coordinator does not accept this browser as the owner's.
    is_shut: RwSignal<bool>,
    /// Incremented with every connection; data fetched before may be out of date.
    connections: RwSignal<u32>,
    /// Why the owner's last command failed.
    problem: RwSignal<Option<String>>,
    /// A command is being sent.
    busy: RwSignal<bool>,
    /// The choices for the next run.
    choice: Choice,
    /// The current or last run, if it was started on this page.
    begun: RwSignal<Option<Begun>>,
    /// The invitation whose code the owner wants to share.
    chosen: RwSignal<Option<i64>>,
    events: StoredValue<Option<SessionEvents>, LocalStorage>,
}

impl Control {
    /// Connects, and reconnects while the page is shown.
    fn connect() -> Self {
        let control = Self {
            view: RwSignal::new(None),
            lost: RwSignal::new(None),
            is_shut: RwSignal::new(false),
            connections: RwSignal::new(0),
            problem: RwSignal::new(None),
            busy: RwSignal::new(false),
            choice: Choice::default(),
            begun: RwSignal::new(None),
            chosen: RwSignal::new(None),
            events: StoredValue::new_local(None),
        };
        control.try_connect();
        control
    }

    /// A part of the view, or the type's default before there is one. It changes only when that part changes.
    pub(crate) fn pick<T>(self, part: impl Fn(&SessionView) -> T + Send + Sync + 'static) -> Memo<T>
    where
        T: Default + PartialEq + Send + Sync + 'static,
    {
        Memo::new(move |_| self.view.with(|view| view.as_ref().map(&part).unwrap_or_default()))
    }

    /// The invitation to share; none if no invitation is open.
    fn shared(self) -> Option<InvitationView> {
        let chosen = self.chosen.get();
        self.view.with(|view| invitations::shared(&view.as_ref()?.invitations, chosen).cloned())
    }

    /// Makes this the invitation to share.
    fn share(self, invitation: i64) {
        self.chosen.set(Some(invitation));
        focus_on("session-code");
    }

    /// The session's code.
    pub(crate) fn code(self) -> Option<PairingCode> {
        self.view.with_untracked(|view| view.as_ref().map(|view| view.code))
    }

    /// Makes a fetch depend on the connection, so that it is repeated after each reconnection.
    pub(crate) fn track_connection(self) {
        self.connections.track();
    }

    /// Whether buttons should wait, because a command is being sent or there is no connection. They use
    /// `aria-disabled`, because with `disabled` a button would lose the keyboard focus when it is pressed.
    pub(crate) fn is_blocked(self) -> bool {
        self.busy.get() || self.lost.with(Option::is_some)
    }

    /// Whether a press has an effect now.
    pub(crate) fn may_wish(self) -> bool {
        untrack(|| !self.is_blocked())
    }

    /// Sends a command. Shows the session's new view, or the error at the top of the page.
    pub(crate) fn wish(self, answer: impl Future<Output = Result<SessionView, ApiError>> + 'static) {
        self.problem.set(None);
        self.wish_and(answer, move |problem| self.problem.set(problem));
    }

    /// Sends a command, and passes its error to `tell`, or `None` if it succeeded.
    pub(crate) fn wish_and(
        self,
        answer: impl Future<Output = Result<SessionView, ApiError>> + 'static,
        tell: impl FnOnce(Option<String>) + 'static,
    ) {
        self.busy.set(true);
        spawn_local(async move {
            let answer = answer.await;
            // The page may have been left meanwhile, and these signals dropped.
            if self.busy.try_set(false).is_some() {
                return;
            }
            tell(match answer {
                Ok(view) => {
                    self.show(view);
                    None
                }
                Err(error) => Some(format::sentence(&error.to_string())),
            });
        });
    }

    fn try_connect(self) {
        let code = self.code();
        spawn_local(async move {
            let answer = match code {
                None => api::current_session().await,
                Some(code) => match api::session(code).await {
                    // The coordinator may have a new database.
                    Err(error) if error.is_not_found() => api::current_session().await,
                    answer => answer,
                },
            };
            if self.view.is_disposed() {
                return;
            }
            match answer {
                Ok(view) => {
                    self.lost.set(None);
                    self.is_shut.set(false);
                    self.connections.update(|count| *count += 1);
                    let code = view.code;
                    self.view.set(Some(view));
                    self.listen(code);
                }
                Err(error) => self.retry(&error),
            }
        });
    }

    /// Shows a view from an answer; subscribes to its session if that is new on this page.
    fn show(self, view: SessionView) {
        let code = view.code;
        let is_new = self.code() != Some(code);
        self.view.set(Some(view));
        if is_new {
            self.listen(code);
        }
    }

    fn listen(self, code: PairingCode) {
        let opened = SessionEvents::open(code, move |event| match event {
            Ok(view) => self.view.set(Some(view)),
            Err(error) => self.retry(&error),
        });
        match opened {
            Ok(events) => self.events.set_value(Some(events)),
            Err(error) => self.retry(&error),
        }
    }

    fn retry(self, error: &ApiError) {
        let is_shut = error.is_not_let_in();
        self.is_shut.set(is_shut);
        self.lost.set((!is_shut).then(|| format::sentence(&error.to_string())));
        set_timeout(
            move || {
                if !self.view.is_disposed() {
                    self.try_connect();
                }
            },
            Duration::from_secs(RETRY_WAIT_SECONDS),
        );
    }
}

#[component]
pub(crate) fn Ingest() -> impl IntoView {
    let control = Control::connect();
    provide_context(control);
    let state = control.pick(|view| Some(view.state));
    let counts = control.pick(|view| view.counts);
    page_title(move || title(state.get(), Shares::of(&counts.get()).finished_percent()));
    let log = control.pick(|view| view.log.clone());
    let is_known = Memo::new(move |_| control.view.with(Option::is_some));
    view! {
        <h1 class="visually-hidden">"Control page"</h1>
        <Connection />
        <Show when=move || !control.is_shut.get() fallback=Shut>
            <Show when=move || is_known.get() fallback=|| view! { <p class="boot" role="status">"Asking the coordinator…"</p> }>
                <Show when=move || state.get() != Some(SessionState::Ended) fallback=SessionOver>
                    <div class="columns">
                        <div class="column-main">
                            <RunCard />
                            <Workers />
                            <FailedTracks />
                            <Log lines=log />
                            <Audit />
                        </div>
                        <div class="column-side">
                            <Invite />
                            <Invitations />
                            <Collections />
                            <NewCode />
                        </div>
                    </div>
                </Show>
            </Show>
        </Show>
    }
}

/// Replaces the page in a browser that is not authorised. When another tab of it is authorised, this one continues.
#[component]
fn Shut() -> impl IntoView {
    view! {
        <section class="card narrow">
            <h2>"This page is for the coordinator’s owner"</h2>
            <p>
                "Are you the owner? Open the link that the coordinator printed when it started. For a new one, run this where \
                the coordinator runs, with the options that it was started with before the word token:"
            </p>
            <pre id="let-me-in">"chaarfm-server token"</pre>
            <p>"Each link works once."</p>
        </section>
    }
}

/// Says when the coordinator cannot be reached, and why the last command failed.
#[component]
fn Connection() -> impl IntoView {
    let control = expect_context::<Control>();
    view! {
        {move || {
            control
                .lost
                .get()
                .map(|reason| {
                    let text = if control.code().is_some() {
                        "Connection lost, retrying. What you see is how it stood last; workers go on by themselves."
                    } else {
                        "No connection to the coordinator yet, retrying."
                    };
                    view! {
                        <Notice tone="warning">
                            <strong id="connection-lost">{text}</strong>
                            <span class="hint">{reason}</span>
                        </Notice>
                    }
                })
        }}
        {move || {
            control
                .problem
                .get()
                .map(|problem| {
                    view! {
                        <Notice tone="error">
                            <span id="problem">{problem}</span>
                            <button
                                type="button"
                                class="quiet"
                                on:click=move |_| {
                                    control.problem.set(None);
                                    focus_on("state-line");
                                }
                            >
                                "Dismiss"
                            </button>
                        </Notice>
                    }
                })
        }}
    }
}

/// Ends the session and starts a new one, so that everybody who knows its codes is shut out.
#[component]
fn NewCode() -> impl IntoView {
    let control = expect_context::<Control>();
    view! {
        <div class="new-code">
            <ConfirmButton
                id="new-session"
                label="End session and begin another"
                question="End this session? Its workers are sent away, waiting tracks are dropped, and its codes admit nobody \
                any more. Vectors that are stored stay stored."
                yes="End it, begin another"
                no="Keep this session"
                on_yes=move |()| {
                    if let Some(code) = control.code() {
                        control.wish(api::replace_session(code));
                    }
                }
                disabled=Signal::derive(move || control.is_blocked())
            />
        </div>
    }
}

/// Replaces the page once the session has ended, perhaps by another page.
#[component]
fn SessionOver() -> impl IntoView {
    let control = expect_context::<Control>();
    let go_on = move |_| {
        // Another page may already have made the next session.
        if control.may_wish() {
            control.wish(api::current_session());
        }
    };
    focus_moves_on("#next-session", "state-line");
    view! {
        <section class="card narrow">
            <h2>"This session has been ended"</h2>
            <p>"Its codes admit nobody any more. Vectors that were stored stay stored."</p>
            <button
                type="button"
                id="next-session"
                class="button"
                on:click=go_on
                aria-disabled=move || control.is_blocked().to_string()
            >
                "Go on with a new session"
            </button>
        </section>
        <section class="narrow">
            <Collections />
        </section>
    }
}

fn title(state: Option<SessionState>, finished_percent: u8) -> String {
    let standing = match state {
        Some(SessionState::Running) => format!("{finished_percent} %"),
        Some(SessionState::Paused) => format!("Paused at {finished_percent} %"),
        Some(SessionState::Complete) => "Complete".into(),
        Some(SessionState::Ended) => "Ended".into(),
        Some(SessionState::Idle) | None => "Control".into(),
    };
    format!("{standing} – ChaarFM Worker")
}
