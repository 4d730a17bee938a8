//! What a broker's `/metrics` says.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const ANSWER_MAX: Duration = Duration::from_secs(10);

pub(super) async fn scrape(address: SocketAddr) -> Result<String> {
    let read = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = "GET /metrics HTTP/1.1\r\nHost: broker\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = timeout(ANSWER_MAX, read).await.context("no metrics came")?;
    answer.context("can't read a broker's metrics")
}

/// The sum over all brokers of one series, such as `x_total{a="b"}`, or of all series of a family, such as
/// `x_total`; what a broker doesn't show counts as nothing.
pub(super) fn sum(texts: &[String], name: &str) -> f64 {
    let value = |line: &str| {
        let rest = line.strip_prefix(name)?;
        let rest = match rest.strip_prefix('{') {
            Some(labels) => labels.split_once('}')?.1,
            None => rest,
        };
        rest.strip_prefix(' ')?.trim().parse::<f64>().ok()
    };
    texts.iter().flat_map(|text| text.lines()).filter_map(value).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_found_by_its_whole_name_and_a_family_with_all_its_labels() {
        let one = "# TYPE a counter\na{b=\"c\"} 2\na{b=\"d\"} 3\naa 7\n".to_owned();
        let texts = [one.clone(), one];
        assert_eq!(sum(&texts, "a"), 10.0);
        assert_eq!(sum(&texts, "a{b=\"c\"}"), 4.0);
        assert_eq!(sum(&texts, "aa"), 14.0);
        assert_eq!(sum(&texts, "b"), 0.0);
    }
}
