//! `currant-broker health`: a probe for where there is no shell.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, bail};

/// For each step.
const TIME_MAX: Duration = Duration::from_secs(3);
/// Of the answer, of which the first line is enough.
const ANSWER_BYTES_MAX: u64 = 1024;

/// Asks the broker that listens here whether it is ready; an error if it isn't.
pub(super) fn run(listen: SocketAddr) -> anyhow::Result<()> {
    let address = reachable(listen);
    let status = ask(address).with_context(|| format!("asking http://{address}"))?;
    if status != "200" {
        bail!("the broker is not ready: {status}");
    }
    println!("ready");
    Ok(())
}

/// Who listens on all addresses listens on the loopback's too.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

fn ask(address: SocketAddr) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, TIME_MAX)?;
    stream.set_read_timeout(Some(TIME_MAX))?;
    stream.set_write_timeout(Some(TIME_MAX))?;
    let request =
        format!("GET /health/ready HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.split(' ').nth(1).context("the answer isn't HTTP")?;
    Ok(status.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_addresses_are_asked_at_the_loopback() {
        let cases = [
            ("0.0.0.0:7071", "127.0.0.1:7071"),
            ("[::]:7071", "[::1]:7071"),
            ("10.0.0.7:80", "10.0.0.7:80"),
        ];
        for (listen, asked) in cases {
            assert_eq!(reachable(listen.parse().expect(listen)).to_string(), asked);
        }
    }
}
