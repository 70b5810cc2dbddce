//! Headless Chromium, driven through chromedriver.

use std::process::Stdio;

use fantoccini::{Client, ClientBuilder, Locator, wd::WebDriverCompatibleCommand};
use http::Method;
use hyper_util::client::legacy::connect::HttpConnector;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};
use url::{ParseError, Url};

use crate::{PATIENCE, within};

/// A browser with one tab. Killed when dropped.
pub struct Browser {
    tab: Client,
    driver: Driver,
    _profile: TempDir,
}

impl Browser {
    /// Opens an address in a profile of its own.
    pub async fn open(address: &str) -> Self {
        Self::open_with(&[], address).await
    }

    /// The same with further arguments for Chromium.
    pub async fn open_with(more: &[&str], address: &str) -> Self {
        let (driver, port) = Driver::start().await;
        let profile = TempDir::new().unwrap();
        let mut arguments: Vec<String> = [
            "--headless=new",
            "--no-sandbox",
            "--no-first-run",
            "--disable-quic",
            "--disable-sync",
            "--disable-background-networking",
            "--disable-component-update",
            "--window-size=1280,900",
        ]
        .map(str::to_owned)
        .to_vec();
        arguments.push(format!("--user-data-dir={}", profile.path().display()));
        arguments.extend(more.iter().map(ToString::to_string));
        // A person would accept the warning about a self-signed certificate.
        let capabilities =
            serde_json::json!({ "goog:chromeOptions": { "args": arguments }, "acceptInsecureCerts": true });
        let serde_json::Value::Object(capabilities) = capabilities else { unreachable!("it is an object") };
        let mut builder = ClientBuilder::new(HttpConnector::new());
        let tab = within(
            "chromedriver's session",
            builder.capabilities(capabilities).connect(&format!("http://127.0.0.1:{port}")),
        )
        .await
        .unwrap();
        tab.goto(address).await.unwrap();
        Self { tab, driver, _profile: profile }
    }

    /// Runs a script in every page before the page's own.
    pub async fn before_pages(&self, script: &str) {
        let command = OnNewDocument(serde_json::json!({
            "cmd": "Page.addScriptToEvaluateOnNewDocument",
            "params": { "source": script },
        }));
        self.tab.issue_cmd(command).await.unwrap();
    }

    /// Goes to another address.
    pub async fn go(&self, address: &str) {
        self.tab.goto(address).await.unwrap();
    }

    /// The text that an element shows.
    pub async fn text(&self, selector: &str) -> String {
        let element = self.tab.wait().at_most(PATIENCE).for_element(Locator::Css(selector)).await;
        element.unwrap_or_else(|error| panic!("no {selector}: {error}")).text().await.unwrap()
    }

    /// Waits until an element's text contains `text`.
    pub async fn shows(&self, selector: &str, text: &str) {
        let shown = async {
            while !self.text(selector).await.contains(text) {
                tokio::task::yield_now().await;
            }
        };
        within(&format!("'{text}' in {selector}"), shown).await;
    }

    /// Writes into a field.
    pub async fn write(&self, selector: &str, text: &str) {
        let field = self.tab.wait().at_most(PATIENCE).for_element(Locator::Css(selector)).await;
        field.unwrap_or_else(|error| panic!("no {selector}: {error}")).send_keys(text).await.unwrap();
    }

    /// Clicks the button with this label as soon as it exists.
    pub async fn press(&self, label: &str) {
        let path = format!("//button[normalize-space()='{label}']");
        let button = self.tab.wait().at_most(PATIENCE).for_element(Locator::XPath(&path)).await;
        button.unwrap_or_else(|error| panic!("no button '{label}': {error}")).click().await.unwrap();
    }

    /// Runs the body of an asynchronous function in the page, and returns its result, or the text of its error.
    pub async fn run(&self, body: &str) -> serde_json::Value {
        let script = format!(
            "const done = arguments[arguments.length - 1]; (async () => {{ {body} }})().then(done, error => done(String(error)));"
        );
        within("the page's script", self.tab.execute_async(&script, Vec::new())).await.unwrap()
    }

    /// Process number of chromedriver, the parent of the browser's processes.
    pub fn process(&self) -> u32 {
        self.driver.0.id().expect("chromedriver runs")
    }

    /// Closes the tab as a person would.
    pub async fn close(self) {
        self.tab.close().await.unwrap();
    }
}

/// A command of Chromium's DevTools protocol, with its parameters.
#[derive(Debug)]
struct OnNewDocument(serde_json::Value);

impl WebDriverCompatibleCommand for OnNewDocument {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, ParseError> {
        base.join(&format!("session/{}/goog/cdp/execute", session.unwrap_or_default()))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        (Method::POST, Some(self.0.to_string()))
    }
}

/// chromedriver and the browsers it starts: a separate process group, so that none is left behind.
struct Driver(Child);

impl Driver {
    /// Starts chromedriver, and returns it with its port.
    async fn start() -> (Self, u16) {
        let mut command = Command::new("chromedriver");
        command.arg("--port=0").process_group(0).stdout(Stdio::piped());
        let mut driver = Self(command.spawn().expect("chromedriver is installed by `cargo xtask test`"));
        let mut lines = BufReader::new(driver.0.stdout.take().unwrap()).lines();
        loop {
            let line = within("chromedriver's port", lines.next_line()).await.unwrap().expect("chromedriver runs");
            if let Some((_, port)) = line.split_once("started successfully on port ") {
                // Keep reading: a full or closed pipe would stop chromedriver.
                tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
                return (driver, port.trim_end_matches('.').parse().unwrap());
            }
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // None if it has already ended.
        if let Some(group) = self.0.id() {
            let _ = std::process::Command::new("kill").args(["-KILL", "--", &format!("-{group}")]).status();
        }
    }
}
