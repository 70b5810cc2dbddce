//! External programs needed for tracks from YouTube: yt-dlp, and a JavaScript runtime for it.

use std::{io, process::Stdio, time::Duration};

use tokio::{process::Command, time::timeout};

use crate::Check;

/// Time limit for a program to print its version. yt-dlp unpacks itself first.
const LIMIT: Duration = Duration::from_secs(20);

/// The runtimes that yt-dlp supports, starting with its default.
const RUNTIMES: [&str; 4] = ["deno", "node", "bun", "qjs"];

/// Longest version shown, in characters.
const MAX_VERSION_CHARS: usize = 60;

/// Checks for yt-dlp and its dependencies. A machine without yt-dlp is fine.
pub async fn tools() -> Vec<Check> {
    let yt_dlp = match version("yt-dlp").await {
        Ok(Some(version)) => Check::ok("yt-dlp", version),
        Ok(None) => return vec![Check::ok("yt-dlp", "not there; only tracks from YouTube need it")],
        Err(reason) => Check::warning("yt-dlp", reason, "install it anew, from https://github.com/yt-dlp/yt-dlp"),
    };
    vec![yt_dlp, runtime().await]
}

async fn runtime() -> Check {
    const NAME: &str = "JavaScript runtime";
    for program in RUNTIMES {
        match version(program).await {
            Ok(Some(version)) => return Check::ok(NAME, format!("{program}, {version}")),
            Ok(None) => {}
            Err(reason) => {
                return Check::warning(NAME, format!("{program}: {reason}"), "install deno, from https://deno.com");
            }
        }
    }
    let advice = "install deno, from https://deno.com: without one yt-dlp does not get every track";
    Check::warning(NAME, format!("none of {}", RUNTIMES.join(", ")), advice)
}

/// The first line of a program's version output; none when the program is not installed.
async fn version(program: &str) -> Result<Option<String>, String> {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).kill_on_drop(true);
    match timeout(LIMIT, command.output()).await {
        Ok(Ok(output)) if output.status.success() => {
            let said = String::from_utf8_lossy(&output.stdout);
            let line = said.lines().next().unwrap_or_default().trim();
            Ok(Some(line.chars().filter(|c| !c.is_control()).take(MAX_VERSION_CHARS).collect()))
        }
        Ok(Ok(output)) => Err(format!("it is there but does not start ({})", output.status)),
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Ok(Err(error)) => Err(format!("it is there but does not start: {error}")),
        Err(_) => Err(format!("it is there but does not answer for {} s", LIMIT.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_says_its_version_or_is_not_there() {
        let cargo = version(env!("CARGO")).await.unwrap().unwrap();
        assert!(cargo.starts_with("cargo "), "{cargo}");
        assert_eq!(version("there-is-no-such-program").await, Ok(None));
    }
}
