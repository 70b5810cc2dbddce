//! The worker as a desktop program. A double click opens its page in the browser, where the person chooses the
//! coordinator, and when not to work.
//!
//! The page is served to this machine only, at an address that contains a secret. Not here: the work itself
//! (`join.rs`), and the manners.

mod board;
mod coordinators;
mod instance;
mod server;
mod start;

use std::{pin::pin, process::ExitCode, sync::Arc, thread};

use anyhow::{Context, Result};
use chaarfm_config::ConfigFile;
use futures_util::future::{Fuse, FutureExt};
use tokio::sync::{mpsc, watch};

pub(crate) use self::start::{is_wanted, leaves_console};
use self::{board::Board, coordinators::Coordinators, instance::Instance, server::Served};
use crate::{
    command::Command,
    devices::{self, Memory},
    display, interrupt,
    join::{Whom, work},
    keys::Keys,
    manners::Keeper,
    network::Network,
    orders::Order,
    settings::Settings,
    tray::{self, Tray},
};

/// Capacity of the command queue; a person gives one at a time.
const QUEUED_COMMANDS: usize = 16;

/// Runs until the person quits. If another instance is running, opens its page and ends.
pub(crate) fn run(settings: Settings, file: ConfigFile) -> Result<ExitCode> {
    let instance = match Instance::claim(instance::folder())? {
        Ok(instance) => instance,
        Err(address) => {
            let link = settings.url.map(|url| server::with_link(&address, &url, settings.code));
            open(&link.unwrap_or(address));
            return Ok(ExitCode::SUCCESS);
        }
    };
    let keeper = Keeper::start(settings.manners.clone()).context("nobody to keep the manners")?;
    tray::beside(|tray| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let end = runtime.block_on(live(settings, file, instance, keeper, tray));
        // Does not wait for devices that are still being tried.
        runtime.shutdown_background();
        if let Err(error) = &end {
            tracing::error!("{error:#}");
        }
        end.map(|()| ExitCode::SUCCESS)
    })
}

/// Opens the page, in a thread: some browser commands return only when the browser is closed.
fn show(address: &str) {
    let address = address.to_owned();
    thread::spawn(move || open(&address));
}

fn open(address: &str) {
    // The address is useful even without a browser.
    display::write_line(&format!("open {address}"));
    if let Err(error) = webbrowser::open(address) {
        tracing::warn!("no browser could be opened: {error}");
    }
}

async fn live(settings: Settings, file: ConfigFile, instance: Instance, keeper: Arc<Keeper>, tray: Tray) -> Result<()> {
    let mut interrupted = pin!(interrupt::first()?.fuse());
    let (commands, mut wanted) = mpsc::channel(QUEUED_COMMANDS);
    let board = Arc::new(Board::new(Coordinators::of_user()));
    tray.show(&keeper, &commands).await;
    let page = Served::new(Arc::clone(&board), Arc::clone(&keeper), file, commands)?.serve().await?;
    instance.publish(&page)?;
    show(&page);

    let choice = settings.device.unwrap_or_default();
    let mut planning = pin!(async {
        // Trying the devices is work as well.
        keeper.gate().running().await;
        tokio::task::spawn_blocking(move || devices::measured_plan(choice, &Memory::of_user())).await
    });
    let mut plan = None;
    let (order, orders) = watch::channel(Order::Work);
    let mut next = settings.url.zip(settings.code);
    let mut session = Box::pin(Fuse::terminated());
    let mut is_working = false;
    let mut quits = false;
    while is_working || !quits {
        if let (false, Some(plan), Some((address, code))) = (is_working, &plan, next.clone()) {
            next = None;
            order.send_replace(Order::Work);
            board.began(&address, code);
            let (plan, keeper, orders, display) = (devices::Plan::clone(plan), &keeper, orders.clone(), &*board);
            let network = Network::to(&address, settings.allow_private_sources)?;
            let whom = Whom { address, code, keys: Keys::of_user(), network };
            let work = async move { work(plan, &whom, keeper, orders, display).await };
            session.set(work.fuse());
            is_working = true;
        }
        tokio::select! {
            planned = &mut planning, if plan.is_none() => {
                let planned = planned.context("finding out what to compute on")??;
                board.planned(&planned);
                plan = Some(planned);
            }
            end = &mut session, if is_working => {
                is_working = false;
                board.ended(&end);
            }
            Some(command) = wanted.recv() => match command {
                Command::Open => show(&page),
                Command::Finish => strictly(&order, Order::Finish),
                Command::Join(address, code) => {
                    next = Some((address, code));
                    strictly(&order, Order::Stop);
                }
                Command::Leave => {
                    next = None;
                    strictly(&order, Order::Stop);
                }
                Command::Quit => {
                    quits = true;
                    strictly(&order, Order::Stop);
                }
            },
            () = &mut interrupted => {
                quits = true;
                strictly(&order, Order::Stop);
            }
        }
        board.ordered(*order.borrow(), quits);
    }
    board.last_view_is_seen().await;
    Ok(())
}

/// Gives an order, unless a stricter one has been given before.
fn strictly(order: &watch::Sender<Order>, wanted: Order) {
    order.send_modify(|order| *order = wanted.max(*order));
}
