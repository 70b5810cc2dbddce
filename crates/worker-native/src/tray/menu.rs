//! The icon's menu, and what its entries do.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::{command::Command, manners::Keeper};

/// The program's name for people.
pub(super) const TITLE: &str = "ChaarFM Worker";

/// An entry of the menu.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    Open,
    /// Pause or resume.
    Pause,
    Finish,
    Quit,
}

impl Entry {
    pub(super) const ALL: [Self; 4] = [Self::Open, Self::Pause, Self::Finish, Self::Quit];

    pub(super) fn label(self, is_paused: bool) -> &'static str {
        match self {
            Self::Open => "Open",
            Self::Pause if is_paused => "Resume",
            Self::Pause => "Pause",
            Self::Finish => "Finish this track, then stop",
            Self::Quit => "Quit",
        }
    }
}

/// Executes the entries.
pub(super) struct Deeds {
    pub(super) keeper: Arc<Keeper>,
    pub(super) commands: mpsc::Sender<Command>,
}

impl Deeds {
    pub(super) fn is_paused(&self) -> bool {
        self.keeper.overview().is_paused
    }

    /// The icon's tooltip.
    pub(super) fn tip(&self) -> String {
        format!("{TITLE}: {}", self.keeper.overview().state)
    }

    pub(super) fn choose(&self, entry: Entry) {
        let command = match entry {
            Entry::Open => Command::Open,
            Entry::Pause => return self.keeper.pause(!self.is_paused()),
            Entry::Finish => Command::Finish,
            Entry::Quit => Command::Quit,
        };
        if self.commands.try_send(command).is_err() {
            tracing::warn!("the worker is busy ending");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manners::Manners;

    #[test]
    fn each_entry_does_what_it_says() {
        let (commands, mut wanted) = mpsc::channel(4);
        let deeds = Deeds { keeper: Keeper::idle(Manners::default()), commands };
        assert_eq!((deeds.tip().as_str(), Entry::Pause.label(deeds.is_paused())), ("ChaarFM Worker: running", "Pause"));
        Entry::ALL.into_iter().for_each(|entry| deeds.choose(entry));
        let wanted = [wanted.try_recv(), wanted.try_recv(), wanted.try_recv(), wanted.try_recv()].map(Result::ok);
        assert_eq!(wanted, [Some(Command::Open), Some(Command::Finish), Some(Command::Quit), None]);
        assert_eq!(Entry::Pause.label(deeds.is_paused()), "Resume");
        deeds.choose(Entry::Pause);
        assert!(!deeds.is_paused());
    }
}
