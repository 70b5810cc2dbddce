//! Joining a session: asks for what is missing, finds out what to compute on, has each device work until it is told to stop.

use std::{
    fmt::Display as Text,
    io::{IsTerminal, stderr, stdin},
    pin::pin,
    process::ExitCode,
    str::FromStr,
};

use anyhow::{Context, Result, anyhow};
use chaarfm_protocol::{PairingCode, Trial};
use chaarfm_worker::Address;
use clap::{CommandFactory, error::ErrorKind};
use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::sync::watch;

use crate::{
    cli::{Cli, JoinArgs},
    devices::{self, DeviceChoice, Memory, Place, Plan},
    display::{self, Display},
    interrupt,
    lane::{Course, Lane, Leave, Retreat},
};

/// The coordinator refused the worker.
const REFUSED_EXIT_CODE: u8 = 3;

/// Joins and works until Ctrl-C, the end of the session or the end of the device.
pub(crate) fn run(args: JoinArgs, plain: bool) -> Result<ExitCode> {
    let (address, code) = whom(args.url, args.code)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let end = runtime.block_on(join(address, code, args.device, plain));
    // Not to wait for the name of a host that the system still looks up.
    runtime.shutdown_background();
    end
}

/// Whom to work for. Asks on a terminal for what is missing; elsewhere says so and exits.
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

/// Works on the devices that were chosen until Ctrl-C, the end of the session or the end of the last device.
async fn join(address: Address, code: PairingCode, choice: DeviceChoice, plain: bool) -> Result<ExitCode> {
    let mut interrupted = pin!(interrupt::first()?);
    if choice == DeviceChoice::Auto {
        display::write_line("finding out what to compute on");
    }
    let planning = tokio::task::spawn_blocking(move || devices::plan(choice, &Memory::of_user()));
    let plan = tokio::select! {
        plan = planning => plan.context("finding out what to compute on")??,
        () = &mut interrupted => return Ok(ExitCode::SUCCESS),
    };
    let display = Display::new(plain, plan.places.len());
    let (stop, stopping) = watch::channel(false);
    let mut lanes: FuturesUnordered<_> = courses(plan)
        .into_iter()
        .enumerate()
        .map(|(number, course)| {
            let (address, stop) = (address.clone(), stopping.clone());
            Lane { number, address, code, course, stop, display: &display }.live()
        })
        .collect();
    let (mut done, mut failed) = (0, 0);
    let mut refused = None;
    // Until a lane has ended in order.
    let mut end = Err(anyhow!("no device works any more"));
    loop {
        let lane = tokio::select! {
            lane = lanes.next() => lane,
            () = &mut interrupted, if !*stop.borrow() => {
                stop.send_replace(true);
                continue;
            }
        };
        let Some(lane) = lane else { break };
        (done, failed) = (done + lane.done, failed + lane.failed);
        match lane.outcome {
            Ok(Leave::Lost) => {}
            Ok(Leave::Stopped) => end = Ok(()),
            Ok(Leave::Refused(reason)) => {
                end = Ok(());
                refused.get_or_insert(reason);
                stop.send_replace(true);
            }
            // The other device goes on, if there is one.
            Err(error) => end = end.or(Err(error)),
        }
    }
    let reason = refused.as_ref().map(|reason| format!(" by the coordinator: {reason}")).unwrap_or_default();
    display.end(&format!("Stopped{reason}. {done} done, {failed} failed."));
    end.map(|()| refused.map_or(ExitCode::SUCCESS, |_| ExitCode::from(REFUSED_EXIT_CODE)))
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
