//! Plots as SVG, to stand inside the page.

use anyhow::{Result, anyhow};
use hdrhistogram::Histogram;
use plotters::{
    coord::{Shift, cartesian::Cartesian2d, ranged1d::ValueFormatter},
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use super::{
    Series, SweepPoint,
    table::{millis, whole},
};
use crate::histogram::Percentiles;

const SIZE: (u32, u32) = (960, 300);
pub(crate) const FONT: &str = "system-ui, sans-serif";
pub(crate) const INK: RGBColor = RGBColor(0x3b, 0x44, 0x52);
pub(crate) const GRID: RGBColor = RGBColor(0xe6, 0xe9, 0xee);
/// Finished jobs, handler starts. Also in the page's style.
pub(crate) const MAIN: RGBColor = RGBColor(0xb8, 0x2a, 0x3c);
/// Enqueued jobs, acknowledgements. Also in the page's style.
const SECOND: RGBColor = RGBColor(0x2f, 0x6d, 0xb5);
/// Bars over the range of a histogram, about; and the bounds for a factor of ten.
const BARS: f64 = 50.0;
const BARS_PER_DECADE: (f64, f64) = (8.0, 40.0);

type Chart<'a, 'b, X, Y> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<X, Y>>;

/// What latencies are of; decides the colour.
#[derive(Clone, Copy, Debug)]
pub(super) enum Latency {
    Start,
    Enqueue,
}

/// Jobs per second over time: finished as an area, enqueued as a line.
pub(super) fn throughput(series: &Series) -> Result<String> {
    let step_s = series.step_ms / 1000.0;
    let points = |rates: &[f64]| -> Vec<(f64, f64)> {
        rates.iter().enumerate().map(|(n, rate)| ((n as f64 + 0.5) * step_s, *rate)).collect()
    };
    let (enqueued, finished) = (points(&series.enqueued_per_s), points(&series.finished_per_s));
    let highest = highest(series.enqueued_per_s.iter().chain(&series.finished_per_s));
    let end = step_s * series.finished_per_s.len() as f64;
    draw(|root| {
        let mut chart = builder(root).build_cartesian_2d(0.0..end, 0.0..highest * 1.08)?;
        mesh(&mut chart, ["seconds", "jobs/s"], |x| trimmed(*x), |y| whole(*y))?;
        chart.draw_series(
            AreaSeries::new(finished, 0.0, MAIN.mix(0.14)).border_style(MAIN.stroke_width(2)),
        )?;
        chart.draw_series(LineSeries::new(enqueued, SECOND.stroke_width(2)))?;
        Ok(())
    })
}

/// How often each latency occurred, in percent, over milliseconds on a log axis, with lines at the
/// median and the 99th percentile.
pub(super) fn latency(histogram: &Histogram<u32>, of: Latency) -> Result<String> {
    let percentiles = Percentiles::of(histogram).ok_or_else(|| anyhow!("nothing was recorded"))?;
    let bars = bars(histogram);
    let highest = highest(bars.iter().map(|bar| &bar.percent));
    let low = bars.first().map_or(0.1, |bar| bar.from_ms / 1.5);
    let high = bars.last().map_or(1.0, |bar| bar.to_ms * 1.5);
    let colour = match of {
        Latency::Start => MAIN,
        Latency::Enqueue => SECOND,
    };
    draw(|root| {
        let axis = (low..high).log_scale().with_key_points(ticks(low, high));
        let mut chart = builder(root).build_cartesian_2d(axis, 0.0..highest * 1.25)?;
        let axes = ["milliseconds, log scale", "percent"];
        mesh(&mut chart, axes, |x| trimmed(*x), |y| trimmed(*y))?;
        chart.draw_series(bars.iter().map(|bar| {
            let corners = [(bar.from_ms, 0.0), (bar.to_ms, bar.percent)];
            Rectangle::new(corners, colour.mix(0.75).filled())
        }))?;
        for (name, ms, height) in [("p50", percentiles.p50, 1.24), ("p99", percentiles.p99, 1.12)] {
            let top = highest * height;
            chart.draw_series([PathElement::new([(ms, 0.0), (ms, top)], INK.stroke_width(1))])?;
            // On the side that has room.
            let left = (ms / low).ln() > 0.8 * (high / low).ln();
            let side = if left { HPos::Right } else { HPos::Left };
            let text = format!("\u{a0}{name} {} ms\u{a0}", millis(ms));
            let style = label(16).pos(Pos::new(side, VPos::Top));
            chart.draw_series([Text::new(text, (ms, top), style)])?;
        }
        Ok(())
    })
}

/// Throughput of each number of workers.
pub(super) fn sweep(points: &[SweepPoint]) -> Result<String> {
    let rate = |point: &SweepPoint| point.figures.end_to_end_jobs_per_s.unwrap_or(0.0);
    let rates: Vec<f64> = points.iter().map(rate).collect();
    let highest = highest(&rates);
    let workers: Vec<_> = points.iter().map(|point| whole(point.workers.into())).collect();
    draw(|root| {
        let places = (0..points.len()).into_segmented();
        let mut chart = builder(root).build_cartesian_2d(places, 0.0..highest * 1.15)?;
        let name = |place: &SegmentValue<usize>| match place {
            SegmentValue::CenterOf(n) => workers.get(*n).cloned().unwrap_or_default(),
            SegmentValue::Exact(_) | SegmentValue::Last => String::new(),
        };
        mesh(&mut chart, ["workers", "jobs/s"], name, |y| whole(*y))?;
        let bars = plotters::series::Histogram::vertical(&chart)
            .style(MAIN.mix(0.75).filled())
            .margin(30)
            .data(rates.iter().copied().enumerate());
        chart.draw_series(bars)?;
        for (n, rate) in rates.iter().enumerate() {
            let place = (SegmentValue::CenterOf(n), rate + highest * 0.02);
            let style = label(16).pos(Pos::new(HPos::Center, VPos::Bottom));
            chart.draw_series([Text::new(whole(*rate), place, style)])?;
        }
        Ok(())
    })
}

/// One bar of a histogram.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Bar {
    from_ms: f64,
    to_ms: f64,
    percent: f64,
}

/// Bars of equal width on a log axis. Below 10 µs a bar can be narrower than the µs that latencies
/// are recorded in; then some stay empty.
fn bars(histogram: &Histogram<u32>) -> Vec<Bar> {
    let decades = (histogram.max().max(1) as f64 / histogram.min().max(1) as f64).log10();
    let per_decade = (BARS / decades.max(0.1)).clamp(BARS_PER_DECADE.0, BARS_PER_DECADE.1);
    let edge_ms = |n: i64| 10f64.powf(n as f64 / per_decade) / 1000.0;
    let mut bars: Vec<(i64, u64)> = Vec::new();
    for value in histogram.iter_recorded() {
        let us = value.value_iterated_to().max(1) as f64;
        let n = (us.log10() * per_decade).floor() as i64;
        let count = value.count_since_last_iteration();
        match bars.last_mut().filter(|(last, _)| *last == n) {
            Some((_, sum)) => *sum += count,
            None => bars.push((n, count)),
        }
    }
    let all = histogram.len() as f64;
    let bar = |(n, count)| Bar {
        from_ms: edge_ms(n),
        to_ms: edge_ms(n + 1),
        percent: 100.0 * count as f64 / all,
    };
    bars.into_iter().map(bar).collect()
}

/// Where a log axis has labels: at 1, 2 and 5 of each decade, over many decades only at 1.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let steps: &[f64] = if (high / low).log10() > 3.5 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let ticks = decades.flat_map(|decade| steps.iter().map(move |step| step * 10f64.powi(decade)));
    ticks.filter(|tick| (low..=high).contains(tick)).collect()
}

fn draw<'a>(
    paint: impl FnOnce(&DrawingArea<SVGBackend<'_>, Shift>) -> Result<()> + 'a,
) -> Result<String> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        paint(&root)?;
        root.present()?;
    }
    Ok(svg)
}

fn builder<'a, 'b>(
    root: &'a DrawingArea<SVGBackend<'b>, Shift>,
) -> ChartBuilder<'a, 'b, SVGBackend<'b>> {
    let mut builder = ChartBuilder::on(root);
    builder.margin(8).margin_right(24).x_label_area_size(44).y_label_area_size(80);
    builder
}

fn mesh<X, Y>(
    chart: &mut Chart<'_, '_, X, Y>,
    [x_name, y_name]: [&str; 2],
    x_text: impl Fn(&X::ValueType) -> String,
    y_text: impl Fn(&Y::ValueType) -> String,
) -> Result<()>
where
    X: Ranged + ValueFormatter<X::ValueType>,
    Y: Ranged + ValueFormatter<Y::ValueType>,
{
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(GRID)
        .label_style(label(16))
        .axis_desc_style(label(16))
        .y_labels(6)
        .x_desc(x_name)
        .y_desc(y_name)
        .x_label_formatter(&x_text)
        .y_label_formatter(&y_text)
        .draw()?;
    Ok(())
}

fn label(size: i32) -> TextStyle<'static> {
    (FONT, size).into_font().color(&INK)
}

/// At least 1, so that an axis has a length.
fn highest<'a>(values: impl IntoIterator<Item = &'a f64>) -> f64 {
    values.into_iter().copied().fold(1.0, f64::max)
}

/// Without needless zeros.
fn trimmed(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::report::{Figures, tests::example};

    #[test]
    fn plots_are_drawn() {
        let report = example();
        let svg = throughput(report.series.as_ref().unwrap()).unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("seconds"), "{svg}");
        let histogram = report.start_histogram.unwrap();
        let svg = latency(&histogram, Latency::Start).unwrap();
        assert!(svg.contains("p99 25.01 ms"), "{svg}");
        let figures = Figures { end_to_end_jobs_per_s: Some(1000.0), ..Figures::default() };
        let points =
            [5, 1000].map(|workers| SweepPoint { workers, passed: true, figures: figures.clone() });
        assert!(sweep(&points).unwrap().contains("1,000"));
    }

    #[test]
    fn bars_hold_everything_that_was_recorded() {
        let histogram = example().start_histogram.unwrap();
        let bars = bars(&histogram);
        assert!((bars.iter().map(|bar| bar.percent).sum::<f64>() - 100.0).abs() < 1e-9);
        assert!(bars.windows(2).all(|pair| pair[0].to_ms <= pair[1].from_ms * 1.000_001));
        assert!(bars.iter().all(|bar| bar.from_ms < 26.0 && bar.to_ms > 0.29), "{bars:?}");
    }

    #[test]
    fn a_log_axis_always_has_labels() {
        assert_eq!(ticks(0.3, 3.0), [0.5, 1.0, 2.0]);
        assert_eq!(ticks(900.0, 1200.0), [1000.0]);
        assert_eq!(ticks(0.01, 100.0).len(), 5);
    }

    #[test]
    fn numbers_have_no_needless_zeros() {
        assert_eq!([0.0, 0.05, 1.0, 20.5].map(trimmed).join(" "), "0 0.05 1 20.5");
    }
}
