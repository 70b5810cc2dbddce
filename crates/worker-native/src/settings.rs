//! Effective settings: flags and environment variables override the settings file.

use std::path::PathBuf;

use chaarfm_config::{ConfigFile, as_text};
use chaarfm_protocol::PairingCode;
use chaarfm_worker::Address;
use serde::{Deserialize, Serialize};
use tracing_subscriber::filter::Targets;

use crate::{
    cli::{Cli, MannersArgs},
    devices::DeviceChoice,
    manners::Manners,
    threads::Threads,
};

/// Name of the program's settings folder.
pub(crate) const PROGRAM: &str = "chaarfm-worker";

/// A commented file that contains the defaults.
pub(crate) const EXAMPLE: &str = include_str!("../config.toml");

/// Content of the settings file, and the effective settings.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    #[serde(with = "as_text", skip_serializing_if = "Option::is_none")]
    pub(crate) url: Option<Address>,
    #[serde(with = "as_text", skip_serializing_if = "Option::is_none")]
    pub(crate) code: Option<PairingCode>,
    #[serde(with = "as_text", skip_serializing_if = "Option::is_none")]
    pub(crate) device: Option<DeviceChoice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) threads: Option<Threads>,
    #[serde(with = "as_text", skip_serializing_if = "Option::is_none")]
    pub(crate) log: Option<Targets>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) log_file: Option<PathBuf>,
    pub(crate) allow_private_sources: bool,
    pub(crate) manners: Manners,
}

impl Settings {
    /// The file given on the command line, or the user's.
    pub(crate) fn file(cli: &Cli) -> ConfigFile {
        ConfigFile::find(PROGRAM, cli.config.clone())
    }

    /// Overrides these settings with the command line and the environment.
    pub(crate) fn under(self, cli: &Cli) -> Self {
        let join = &cli.join;
        let url = join.link.clone().or_else(|| join.url.clone());
        // A code in the file belongs to the file's address, not to one given here.
        let code = join.code.or_else(|| url.as_ref().and_then(Address::code));
        let code = if url.is_some() { code } else { code.or(self.code) };
        let url = url.or(self.url);
        let code = code.or_else(|| url.as_ref().and_then(Address::code));
        let url = match join.pin {
            Some(pin) => url.map(|url| url.with_pin(pin)),
            None => url,
        };
        Self {
            url,
            code,
            device: join.device.or(self.device),
            threads: cli.threads.or(self.threads),
            log: cli.log.clone().or(self.log),
            log_file: cli.log_file.clone().or(self.log_file),
            allow_private_sources: join.allow_private_sources.unwrap_or(self.allow_private_sources),
            manners: join.manners.clone().over(self.manners),
        }
    }
}

impl MannersArgs {
    fn over(self, file: Manners) -> Manners {
        let Self {
            low_priority,
            max_cpu,
            schedule,
            only_when_idle,
            idle_minutes,
            not_on_battery,
            not_on_metered,
            max_bytes_per_day,
            max_temperature,
        } = self;
        Manners {
            low_priority: low_priority.unwrap_or(file.low_priority),
            max_cpu: max_cpu.unwrap_or(file.max_cpu),
            schedule: schedule.unwrap_or(file.schedule),
            only_when_idle: only_when_idle.unwrap_or(file.only_when_idle),
            idle_minutes: idle_minutes.unwrap_or(file.idle_minutes),
            not_on_battery: not_on_battery.unwrap_or(file.not_on_battery),
            not_on_metered: not_on_metered.unwrap_or(file.not_on_metered),
            max_bytes_per_day: max_bytes_per_day.or(file.max_bytes_per_day),
            max_temperature: max_temperature.or(file.max_temperature),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn read(text: &str) -> Result<Settings, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        std::fs::write(&path, text).unwrap();
        ConfigFile::find(PROGRAM, Some(path)).read().map_err(|error| error.to_string())
    }

    #[test]
    fn the_example_is_what_holds_anyway_and_names_every_setting() {
        assert_eq!(read(EXAMPLE), Ok(Settings::default()));
        let commented = |line: &str| line.split_once(" = ").is_some_and(|(key, _)| !key[2..].contains(' '));
        let lines = EXAMPLE.lines().map(|line| match line.strip_prefix("# ") {
            Some(setting) if commented(line) => setting,
            _ => line,
        });
        let all = read(&lines.collect::<Vec<_>>().join("\n")).unwrap();
        let written = serde_json::to_value(&all).unwrap();
        // Every setting appears in the example.
        let names = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        let example = |name: &String| EXAMPLE.contains(&format!("# {name} = "));
        assert!(names(&written).iter().filter(|name| *name != "manners").all(example), "{written}");
        assert!(names(&written["manners"]).iter().all(example), "{written}");
        assert_eq!((names(&written).len(), names(&written["manners"]).len()), (8, 9));
        let defaults = Manners::default();
        let as_usual = Manners { schedule: Vec::new(), max_bytes_per_day: None, max_temperature: None, ..all.manners };
        assert_eq!(as_usual, defaults);
    }

    #[test]
    fn says_where_the_file_is_wrong() {
        for (text, place) in [
            ("[manners]\nmax_cpu = 0", "line 2, manners.max_cpu: 0 is not in 1..=100 percent"),
            ("[manners]\nschedule = [\"22:00-07:00\",\n\"7-8\"]", "line 2, manners.schedule: '7-8' is no time"),
            (
                "[manners]\nmax_bytes_per_day = \"2 apples\"",
                "line 2, manners.max_bytes_per_day: '2 apples' is no amount",
            ),
            ("[manners]\nnot_on_batery = true", "line 2, manners.not_on_batery: unknown field"),
            ("threads = 2000", "line 1, threads: 2000 is not in 1..=1024"),
            ("threads = -1", "line 1, threads: "),
            ("device = \"abacus\"", "line 1, device: 'abacus' is no device"),
            ("url = \"host\"", "line 1, url: 'host' does not begin with http://"),
            ("code = \"K7Q\"", "line 1, code: "),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(&format!("config.toml, {place}")), "{error}");
        }
    }

    #[test]
    fn flags_go_before_the_file() {
        let file = read(
            "url = \"http://a\"\ncode = \"K7Q-M4X-WDP\"\nthreads = 3\n[manners]\nmax_cpu = 50\nnot_on_battery = true",
        );
        let file = file.unwrap();
        let with = |arguments: &[&str]| {
            let cli = Cli::parse_from(["chaarfm-worker"].iter().chain(arguments));
            file.clone().under(&cli)
        };
        assert_eq!(with(&[]), file);
        let other =
            with(&["--max-cpu", "20", "--not-on-battery=false", "--threads", "1", "--schedule", "1:00-2:00,3:00-4:00"]);
        assert_eq!((other.manners.max_cpu.share(), other.manners.not_on_battery), (0.2, false));
        assert_eq!((other.manners.schedule.len(), other.threads.map(Threads::get)), (2, Some(1)));
        assert!(with(&["--only-when-idle"]).manners.only_when_idle);
        let elsewhere = with(&["--url", "http://b"]);
        assert_eq!((elsewhere.url.unwrap().to_string().as_str(), elsewhere.code), ("http://b", None));
        let link = with(&["http://b/join/AAA-AAA-AAA"]);
        assert_eq!(link.code.unwrap().to_string(), "AAA-AAA-AAA");
    }
}
