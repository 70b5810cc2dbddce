//! The icon on Windows and macOS, which report clicks in the event loop of a program's first thread.

#[cfg_attr(target_os = "macos", path = "event_loop/macos.rs")]
#[cfg_attr(windows, path = "event_loop/windows.rs")]
mod builder;

use std::{
    panic,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use tokio::sync::mpsc;
use tray_icon::{
    Icon, MouseButton, MouseButtonState, TrayIcon, TrayIconBuilder, TrayIconEvent,
    menu::{Menu, MenuEvent, MenuId, MenuItem},
};
use winit::{
    application::ApplicationHandler,
    event::WindowEvent,
    event_loop::{ActiveEventLoop, EventLoopProxy},
    window::WindowId,
};

use super::{
    icon,
    menu::{Deeds, Entry},
};
use crate::{command::Command, manners::Keeper};

/// Handle of the icon; none if there is no event loop.
pub(crate) struct Tray(Option<EventLoopProxy<Event>>);

/// Events for the first thread.
enum Event {
    /// Show the icon.
    Show(Deeds),
    /// A menu entry was chosen.
    Chosen(MenuId),
    /// The icon was clicked.
    Clicked,
    /// The worker was paused or resumed.
    Changed,
    /// The program has ended.
    Ended,
}

/// Runs a program in a thread of its own, and the icon in this thread.
pub(crate) fn beside<T: Send>(program: impl FnOnce(Tray) -> T + Send) -> T {
    let event_loop = match builder::builder().build() {
        Ok(event_loop) => event_loop,
        Err(error) => {
            tracing::info!("there is no icon in the tray: {error}");
            return program(Tray(None));
        }
    };
    let proxy = event_loop.create_proxy();
    thread::scope(|scope| {
        let program = scope.spawn(move || {
            let _ending = Ending(proxy.clone());
            program(Tray(Some(proxy)))
        });
        if let Err(error) = event_loop.run_app(&mut Shown(None)) {
            tracing::warn!("there is no icon in the tray any more: {error}");
        }
        program.join().unwrap_or_else(|crash| panic::resume_unwind(crash))
    })
}

/// Ends the event loop when the program has ended for any reason.
struct Ending(EventLoopProxy<Event>);

impl Drop for Ending {
    fn drop(&mut self) {
        // Fails only if the loop has already ended.
        drop(self.0.send_event(Event::Ended));
    }
}

impl Tray {
    /// Shows the icon until the program ends.
    pub(crate) async fn show(self, keeper: &Arc<Keeper>, commands: &mpsc::Sender<Command>) {
        let Some(proxy) = self.0 else { return };
        let deeds = Deeds { keeper: Arc::clone(keeper), commands: commands.clone() };
        drop(proxy.send_event(Event::Show(deeds)));
        let tell = |proxy: &EventLoopProxy<Event>| {
            let proxy = Mutex::new(proxy.clone());
            // Fails only if the loop has already ended.
            move |event| drop(proxy.lock().unwrap_or_else(PoisonError::into_inner).send_event(event))
        };
        let chosen = tell(&proxy);
        MenuEvent::set_event_handler(Some(move |event: MenuEvent| chosen(Event::Chosen(event.id))));
        let clicked = tell(&proxy);
        TrayIconEvent::set_event_handler(Some(move |event| {
            let (button, state) = (MouseButton::Left, MouseButtonState::Up);
            if matches!(event, TrayIconEvent::Click { button: b, button_state: s, .. } if (b, s) == (button, state)) {
                clicked(Event::Clicked);
            }
        }));
        let mut changes = keeper.gate().changes();
        tokio::spawn(
            async move { while changes.changed().await.is_ok() && proxy.send_event(Event::Changed).is_ok() {} },
        );
    }
}

/// The icon, once it is shown.
struct Shown(Option<WithMenu>);

struct WithMenu {
    icon: TrayIcon,
    items: [(Entry, MenuItem); Entry::ALL.len()],
    deeds: Deeds,
}

impl WithMenu {
    fn of(deeds: Deeds) -> Result<Self, Box<dyn std::error::Error>> {
        let items = Entry::ALL.map(|entry| (entry, MenuItem::new(entry.label(deeds.is_paused()), true, None)));
        let menu = Menu::new();
        for (_, item) in &items {
            menu.append(item)?;
        }
        let icon = TrayIconBuilder::new()
            .with_menu(Box::new(menu))
            .with_menu_on_left_click(false)
            .with_tooltip(deeds.tip())
            .with_icon(Icon::from_rgba(icon::rgba(), icon::SIDE, icon::SIDE)?)
            .build()?;
        Ok(Self { icon, items, deeds })
    }

    fn renew(&self) {
        for (entry, item) in &self.items {
            item.set_text(entry.label(self.deeds.is_paused()));
        }
        // The icon is useful even without a tooltip.
        drop(self.icon.set_tooltip(Some(self.deeds.tip())));
    }
}

impl ApplicationHandler<Event> for Shown {
    fn resumed(&mut self, _event_loop: &ActiveEventLoop) {}

    fn window_event(&mut self, _event_loop: &ActiveEventLoop, _window: WindowId, _event: WindowEvent) {}

    fn user_event(&mut self, event_loop: &ActiveEventLoop, event: Event) {
        match (event, &self.0) {
            (Event::Show(deeds), _) => match WithMenu::of(deeds) {
                Ok(shown) => self.0 = Some(shown),
                Err(error) => tracing::info!("there is no icon in the tray: {error}"),
            },
            (Event::Chosen(id), Some(shown)) => {
                let chosen = shown.items.iter().find(|(_, item)| *item.id() == id);
                if let Some((entry, _)) = chosen {
                    shown.deeds.choose(*entry);
                }
            }
            (Event::Clicked, Some(shown)) => shown.deeds.choose(Entry::Open),
            (Event::Changed, Some(shown)) => shown.renew(),
            (Event::Ended, _) => event_loop.exit(),
            (Event::Chosen(_) | Event::Clicked | Event::Changed, None) => {}
        }
    }
}
