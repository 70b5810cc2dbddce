//! Headless Chromium, driven through chromedriver.

use std::process::Stdio;

use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use crate::within;

/// A browser with one tab. Ended hard when dropped.
pub struct Browser {
    tab: Client,
    _driver: Child,
    _profile: TempDir,
}

impl Browser {
    /// Opens an address.
    pub async fn open(address: &str) -> Self {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("chromedriver is installed by `cargo xtask test`");
        let port = driver_port(&mut driver).await;
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
        let capabilities = serde_json::json!({ "goog:chromeOptions": { "args": arguments } });
        let serde_json::Value::Object(capabilities) = capabilities else { unreachable!("it is an object") };
        let mut builder = ClientBuilder::new(HttpConnector::new());
        let tab = within(
            "chromedriver's session",
            builder.capabilities(capabilities).connect(&format!("http://127.0.0.1:{port}")),
        )
        .await
        .unwrap();
        tab.goto(address).await.unwrap();
        Self { tab, _driver: driver, _profile: profile }
    }

    /// Clicks the button with this label, as soon as it is there.
    pub async fn press(&self, label: &str) {
        let path = format!("//button[normalize-space()='{label}']");
        let button = self.tab.wait().for_element(Locator::XPath(&path)).await;
        button.unwrap_or_else(|error| panic!("no button '{label}': {error}")).click().await.unwrap();
    }

    /// What the page says.
    pub async fn text(&self) -> String {
        self.tab.find(Locator::Css("body")).await.unwrap().text().await.unwrap()
    }

    /// Closes the tab as a person would.
    pub async fn close(self) {
        self.tab.close().await.unwrap();
    }
}

async fn driver_port(driver: &mut Child) -> u16 {
    let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
    loop {
        let line = within("chromedriver's port", lines.next_line()).await.unwrap().expect("chromedriver runs");
        if let Some((_, port)) = line.split_once("started successfully on port ") {
            // Whoever stops reading a pipe stops the writer.
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return port.trim_end_matches('.').parse().unwrap();
        }
    }
}
