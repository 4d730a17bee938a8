//! The chart: a panel for each figure, a bar for each system, from 0. It has a background of its own,
//! so that it can be read on a dark page too.

use anyhow::Result;
use plotters::{
    coord::Shift,
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use super::{
    measure::Figure,
    results::{Results, Spread},
    system::System,
    table::spreads,
};
use crate::report::plot::{FONT, GRID, INK, MAIN};

const PANEL: (u32, u32) = (520, 190);
const COLUMNS: usize = 2;
const TITLE_HEIGHT: u32 = 64;
const BACKGROUND: RGBColor = WHITE;
const OTHERS: RGBColor = RGBColor(0x6b, 0x7f, 0x99);
/// Of a bar's row.
const BAR_HEIGHT: f64 = 0.62;
/// Of the axis, for the number behind the longest bar.
const ROOM: f64 = 1.3;
/// Pixels for the systems' names.
const NAMES: i32 = 150;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

pub(super) fn draw(results: &Results) -> Result<String> {
    let measured = |figure: &Figure| spreads(results, *figure).next().is_some();
    let figures: Vec<Figure> = Figure::ALL.into_iter().filter(measured).collect();
    let rows = figures.len().div_ceil(COLUMNS);
    let size = (PANEL.0 * COLUMNS as u32, TITLE_HEIGHT + PANEL.1 * rows as u32 + 8);
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        root.fill(&BACKGROUND)?;
        let (head, body) = root.split_vertically(TITLE_HEIGHT);
        title(&head, results)?;
        let panels = body.split_evenly((rows.max(1), COLUMNS));
        for (area, figure) in panels.iter().zip(figures) {
            panel(area, results, figure)?;
        }
        root.present()?;
    }
    Ok(svg)
}

fn title(area: &Area<'_>, results: &Results) -> Result<()> {
    area.draw(&Text::new("Job queues on one machine", (16, 14), text(22)))?;
    let machine = &results.machine;
    let cpu = machine.cpu.as_deref().unwrap_or("unknown CPU");
    let cores = machine.cores.map_or(String::new(), |cores| format!("{cores} cores of "));
    let line = format!(
        "Bars: median of {}; lines: lowest to highest. Jobs of {} bytes that do nothing. {cores}{cpu}, {}",
        results.repetitions,
        results.payload_bytes,
        results.finished_at.get(..10).unwrap_or_default(),
    );
    area.draw(&Text::new(line, (16, 42), text(14)))?;
    Ok(())
}

fn panel(area: &Area<'_>, results: &Results, figure: Figure) -> Result<()> {
    let bars: Vec<(System, &Spread)> =
        spreads(results, figure).map(|(system, found)| (system, &found.figures[&figure])).collect();
    let highest = bars.iter().map(|(_, spread)| spread.max).fold(f64::MIN_POSITIVE, f64::max);
    area.draw(&Text::new(figure.title(), (16, 8), text(15)))?;
    let mut chart = ChartBuilder::on(area)
        .margin_top(30)
        .margin_right(16)
        .margin_bottom(6)
        .x_label_area_size(24)
        .y_label_area_size(NAMES as u32)
        .build_cartesian_2d(0.0..highest * ROOM, 0.0..bars.len() as f64)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(GRID)
        .x_labels(5)
        .y_labels(0)
        .label_style(text(13))
        .x_label_formatter(&|x| figure.number(*x))
        .draw()?;
    for (row, (system, spread)) in bars.iter().rev().enumerate() {
        let middle = row as f64 + 0.5;
        let (low, high) = (middle - BAR_HEIGHT / 2.0, middle + BAR_HEIGHT / 2.0);
        let colour = if *system == System::Currant { MAIN } else { OTHERS };
        // What a crash would lose looks lighter.
        let colour = colour.mix(if system.survives_a_crash() { 0.85 } else { 0.45 });
        let corners = [(0.0, low), (spread.median, high)];
        chart.draw_series([Rectangle::new(corners, colour.filled())])?;
        let ends = [(spread.min, middle), (spread.max, middle)];
        chart.draw_series([PathElement::new(ends, INK.stroke_width(2))])?;
        let behind = (spread.max.max(spread.median) + highest * 0.015, middle);
        let number = text(14).pos(Pos::new(HPos::Left, VPos::Center));
        chart.draw_series([Text::new(figure.number(spread.median), behind, number)])?;
        let (_, y) = chart.backend_coord(&(0.0, middle));
        let (_, top) = area.get_base_pixel();
        let name = text(14).pos(Pos::new(HPos::Right, VPos::Center));
        area.draw(&Text::new(system.title(), (NAMES - 8, y - top), name))?;
    }
    Ok(())
}

fn text(size: i32) -> TextStyle<'static> {
    (FONT, size).into_font().color(&INK)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::peers::results::tests::example;

    #[test]
    fn every_figure_has_a_panel_with_all_systems() {
        let svg = draw(&example()).unwrap();
        assert!(svg.starts_with("<svg"), "{svg}");
        for figure in Figure::ALL {
            assert!(svg.contains(figure.title()), "{}", figure.title());
        }
        for system in System::ALL {
            assert_eq!(svg.matches(system.title()).count(), Figure::ALL.len());
        }
    }
}
