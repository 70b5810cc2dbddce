//! A coordinator that speaks TLS itself.

use chaarfm_server::{Access, Config, Server, Tls, healthcheck};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
};

use super::harness::{Folders, client, within};

/// A client that does not ask who has signed a certificate.
fn credulous() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
    client.danger_accept_invalid_certs(true).build().unwrap()
}

#[tokio::test]
async fn with_a_certificate_of_its_own_everything_goes_over_tls() {
    let folders = Folders::with(&[]);
    let tls = Some(Tls::SelfSigned { folder: folders.root().join("tls") });
    let server =
        Server::bind(&Config { access: Access { tls, ..Access::default() }, ..folders.config() }).await.unwrap();
    let (address, page, pin) = (server.local_addr(), server.page(), server.pin().unwrap());
    assert!(page.starts_with(&format!("https://{address}/enter?token=")), "{page}");
    assert_eq!(pin.len(), 64);
    assert!(!server.is_readable_on_the_way());
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(server.run(async {
        let _ = stopped.await;
    }));

    let entered = credulous().get(page).send().await.unwrap();
    let cookie = entered.headers()["set-cookie"].to_str().unwrap().to_owned();
    assert!(cookie.contains("; Secure"), "{cookie}");
    let cookie = cookie.split(';').next().unwrap();
    let session = credulous().post(format!("https://{address}/api/sessions/current")).header("cookie", cookie);
    let session = session.send().await.unwrap();
    assert_eq!(session.status(), 200);
    let view: serde_json::Value = session.json().await.unwrap();
    assert_eq!(view["advertised"]["pin"], pin.as_str(), "native workers get it with the link");
    tokio::task::spawn_blocking(move || healthcheck(address, true)).await.unwrap().unwrap();

    // What is asked without TLS is only told where to go, and not for every name.
    let plain = client().get(format!("http://{address}/join/K7Q-M4X-WDP?a=b")).send().await.unwrap();
    assert_eq!(plain.status(), 307);
    assert_eq!(plain.headers()["location"], format!("https://{address}/join/K7Q-M4X-WDP?a=b"));
    let elsewhere = client().get(format!("http://{address}/")).header("host", "evil.example").send().await.unwrap();
    assert_eq!(elsewhere.status(), 421);

    // Connections that never greet, or greet with rubbish, keep nobody out and the coordinator from stopping.
    let _silent = TcpStream::connect(address).await.unwrap();
    let mut rubbish = TcpStream::connect(address).await.unwrap();
    rubbish.write_all(&[0x16; 600]).await.unwrap();
    let refused = within("the end of a bad greeting", rubbish.read_to_end(&mut Vec::new())).await;
    assert!(refused.is_err() || refused.is_ok_and(|bytes| bytes < 100));
    stop.send(()).unwrap();
    within("the coordinator to stop", running).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_certificate_that_is_not_there_is_named_before_anything_is_served() {
    let folders = Folders::with(&[]);
    let tls = Some(Tls::Files { certificate: "/nowhere/cert.pem".into(), key: "/nowhere/key.pem".into() });
    let config = Config { access: Access { tls, ..Access::default() }, ..folders.config() };
    let error = Server::bind(&config).await.err().unwrap().to_string();
    assert!(error.starts_with("TLS: /nowhere/cert.pem: "), "{error}");
}
