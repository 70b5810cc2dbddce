//! The icon on desktops with a status notifier: KDE, and GNOME, Xfce and others where one is installed.

use std::sync::Arc;

use ksni::{Icon, MenuItem, ToolTip, TrayMethods, menu::StandardItem};
use tokio::sync::mpsc;

use super::{
    icon,
    menu::{Deeds, Entry, TITLE},
};
use crate::{command::Command, manners::Keeper};

/// Handle of the icon.
pub(crate) struct Tray;

/// Runs a program; the icon needs no thread of its own.
pub(crate) fn beside<T: Send>(program: impl FnOnce(Tray) -> T + Send) -> T {
    program(Tray)
}

impl Tray {
    /// Shows the icon until the program ends, if the desktop has a place for it.
    pub(crate) async fn show(self, keeper: &Arc<Keeper>, commands: &mpsc::Sender<Command>) {
        let deeds = Deeds { keeper: Arc::clone(keeper), commands: commands.clone() };
        let handle = match deeds.spawn().await {
            Ok(handle) => handle,
            Err(error) => {
                tracing::info!("there is no icon in the tray: {error}");
                return;
            }
        };
        let mut changes = keeper.gate().changes();
        tokio::spawn(async move { while changes.changed().await.is_ok() && handle.update(|_| ()).await.is_some() {} });
    }
}

impl ksni::Tray for Deeds {
    fn id(&self) -> String {
        crate::settings::PROGRAM.to_owned()
    }

    fn title(&self) -> String {
        TITLE.to_owned()
    }

    fn icon_pixmap(&self) -> Vec<Icon> {
        // Status notifiers expect ARGB.
        let data = icon::rgba().chunks_exact(4).flat_map(|rgba| [rgba[3], rgba[0], rgba[1], rgba[2]]).collect();
        vec![Icon { width: icon::SIDE as i32, height: icon::SIDE as i32, data }]
    }

    fn tool_tip(&self) -> ToolTip {
        ToolTip { title: self.tip(), ..ToolTip::default() }
    }

    fn activate(&mut self, _x: i32, _y: i32) {
        self.choose(Entry::Open);
    }

    fn menu(&self) -> Vec<MenuItem<Self>> {
        let item = |entry: Entry| {
            let activate = Box::new(move |deeds: &mut Self| deeds.choose(entry));
            StandardItem { label: entry.label(self.is_paused()).to_owned(), activate, ..StandardItem::default() }.into()
        };
        Entry::ALL.map(item).into()
    }
}
