//! Joins a session: asks for missing settings, chooses devices, and lets each work until it is told to stop.

use std::{
    fmt::{self, Display as Text},
    io::{IsTerminal, stderr, stdin},
    pin::pin,
    process::ExitCode,
    str::FromStr,
    sync::Arc,
};

use anyhow::{Context, Result, anyhow};
use chaarfm_protocol::{PairingCode, Trial};
use chaarfm_worker::Address;
use clap::{CommandFactory, error::ErrorKind};
use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::sync::watch;

use crate::{
    cli::Cli,
    devices::{self, DeviceChoice, Memory, Place, Plan},
    display::{self, Display, Terminal},
    interrupt,
    keys::Keys,
    lane::{Course, Lane, Leave, Retreat},
    manners::{Keeper, State},
    network::Network,
    orders::{Order, Orders},
    settings::Settings,
};

/// Exit code when the coordinator refused the worker.
const REFUSED_EXIT_CODE: u8 = 3;

/// Joins and works until Ctrl-C, the end of the session or the failure of the last device.
pub(crate) fn run(settings: Settings) -> Result<ExitCode> {
    let (address, code) = whom(settings.url, settings.code)?;
    let network = Network::to(&address, settings.allow_private_sources)?;
    let whom = Whom { address, code, keys: Keys::of_user(), network };
    let keeper = Keeper::start(settings.manners).context("nobody to keep the manners")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let end = runtime.block_on(join(whom, settings.device.unwrap_or_default(), keeper, settings.log.is_some()));
    // Does not wait for a DNS lookup that is still running.
    runtime.shutdown_background();
    end
}

/// The coordinator to work for, and the connection to it.
#[derive(Clone)]
pub(crate) struct Whom {
    pub(crate) address: Address,
    pub(crate) code: PairingCode,
    pub(crate) keys: Keys,
    pub(crate) network: Network,
}

/// Address and code of the coordinator. Asks on a terminal for missing ones; elsewhere fails.
fn whom(url: Option<Address>, code: Option<PairingCode>) -> Result<(Address, PairingCode)> {
    let code = code.or_else(|| url.as_ref().and_then(Address::code));
    let missing = [("--url", url.is_none()), ("--code", code.is_none())];
    let missing: Vec<_> = missing.into_iter().filter_map(|(name, is)| is.then_some(name)).collect();
    let can_ask = stdin().is_terminal() && stderr().is_terminal();
    if !missing.is_empty() && !can_ask {
        let message = format!("missing, and nobody to ask: {}", missing.join(", "));
        Cli::command().error(ErrorKind::MissingRequiredArgument, message).exit();
    }
    let address = url.map_or_else(|| ask("The coordinator's address"), Ok)?;
    let code = code.or(address.code()).map_or_else(|| ask("The session's pairing code"), Ok)?;
    Ok((address, code))
}

/// Asks until the answer is valid.
fn ask<T: Clone + Text + FromStr<Err: Text>>(question: &str) -> Result<T> {
    dialoguer::Input::new().with_prompt(question).interact_text().context("no answer")
}

/// Works on the chosen devices until Ctrl-C, the end of the session or the failure of the last device.
async fn join(whom: Whom, choice: DeviceChoice, keeper: Arc<Keeper>, plain: bool) -> Result<ExitCode> {
    let mut interrupted = pin!(interrupt::first()?);
    let planning = async {
        let gate = keeper.gate();
        let state = gate.permit().state;
        if state != State::Running {
            display::write_line(&state.to_string());
        }
        // Trying the devices is work as well.
        gate.running().await;
        if choice == DeviceChoice::Auto {
            display::write_line("finding out what to compute on");
        }
        tokio::task::spawn_blocking(move || devices::plan(choice, &Memory::of_user())).await
    };
    let plan = tokio::select! {
        plan = planning => plan.context("finding out what to compute on")??,
        () = &mut interrupted => return Ok(ExitCode::SUCCESS),
    };
    let display = Terminal::new(plain, plan.places.len());
    let (order, orders) = watch::channel(Order::Work);
    let mut work = pin!(work(plan, &whom, &keeper, orders, &display));
    let end = loop {
        tokio::select! {
            end = &mut work => break end,
            () = &mut interrupted, if *order.borrow() == Order::Work => {
                order.send_replace(Order::Stop);
            }
        }
    };
    display.end(&end.to_string());
    end.outcome.map(|()| end.refused.map_or(ExitCode::SUCCESS, |_| ExitCode::from(REFUSED_EXIT_CODE)))
}

/// The result of the work for a session.
pub(crate) struct End {
    /// Tracks of all devices.
    done: u64,
    failed: u64,
    /// Why the coordinator refused the worker.
    pub(crate) refused: Option<String>,
    /// An error when no device works any more.
    pub(crate) outcome: Result<()>,
}

impl Text for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { done, failed, refused, .. } = self;
        let reason = refused.as_ref().map(|reason| format!(" by the coordinator: {reason}")).unwrap_or_default();
        write!(f, "Stopped{reason}. {done} done, {failed} failed.")
    }
}

/// Lets each device of a plan work for a session until it is ordered to end, refused, or out of devices.
pub(crate) async fn work(
    plan: Plan,
    whom: &Whom,
    keeper: &Arc<Keeper>,
    mut orders: Orders,
    display: &dyn Display,
) -> End {
    // Carries the owner's orders, and our own when a device is refused: the coordinator does not want the other one
    // either.
    let (order, passed_on) = watch::channel(*orders.borrow_and_update());
    let lane = |(number, course)| {
        let (keeper, orders) = (Arc::clone(keeper), passed_on.clone());
        let Whom { address, code, keys, network } = whom.clone();
        Lane { number, network, address, code, keys, course, orders, keeper, display }.live()
    };
    let mut lanes: FuturesUnordered<_> = courses(plan).into_iter().enumerate().map(lane).collect();
    // Replaced when a lane ends properly.
    let outcome = Err(anyhow!("no device works any more"));
    let mut end = End { done: 0, failed: 0, refused: None, outcome };
    let mut changes = keeper.gate().changes();
    let state = changes.borrow_and_update().state.clone();
    if state != State::Running {
        display.show_state(&state);
    }
    loop {
        let lane = tokio::select! {
            lane = lanes.next() => lane,
            Ok(()) = orders.changed() => {
                let wanted = *orders.borrow_and_update();
                order.send_modify(|order| *order = wanted.max(*order));
                continue;
            }
            Ok(()) = changes.changed() => {
                display.show_state(&changes.borrow_and_update().state);
                continue;
            }
        };
        let Some(lane) = lane else { return end };
        (end.done, end.failed) = (end.done + lane.done, end.failed + lane.failed);
        match lane.outcome {
            Ok(Leave::Lost) => {}
            Ok(Leave::Stopped) => end.outcome = Ok(()),
            Ok(Leave::Refused(reason)) => {
                end.outcome = Ok(());
                end.refused.get_or_insert(reason);
                order.send_replace(Order::Stop);
            }
            // The other device goes on, if there is one.
            Err(error) => end.outcome = end.outcome.or(Err(error)),
        }
    }
}

/// A lane for each device of the plan.
fn courses(plan: Plan) -> Vec<Course> {
    let Plan { places, speeds, note, is_free } = plan;
    let several = places.len() > 1;
    let retreat = |place: &Place| match place {
        _ if several => Some(Retreat::OtherLane),
        Place::Gpu(_) if is_free => Some(Retreat::Cpu),
        Place::Gpu(_) | Place::Cpu(_) => None,
    };
    let course = |place: Place| {
        let retreat = retreat(&place);
        Course::new(place, Trial { speeds, note: note.clone() }, retreat)
    };
    places.into_iter().map(course).collect()
}
