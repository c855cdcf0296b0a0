//! Line plots as SVG: logarithmic axes, a mark for each median, a whisker from lowest to highest.

use std::fmt::{self, Write as _};

use crate::results::Spread;

/// A plot.
pub struct Plot<'a> {
    /// What it shows.
    pub title: &'a str,
    /// The horizontal axis, by its label; the ticks are given.
    pub x: &'a str,
    /// Where the horizontal axis has ticks, and what they say, ascending.
    pub ticks: Vec<(f64, String)>,
    /// The vertical axis, by its label; ticks are at 1, 2 and 5 times each power of ten.
    pub y: &'a str,
    /// The lines.
    pub lines: Vec<Line>,
}

/// One line of a plot.
pub struct Line {
    /// What the legend says.
    pub name: String,
    /// `#rrggbb`.
    pub colour: &'static str,
    /// Whether it stands out.
    pub strong: bool,
    /// Where it goes, by ascending x.
    pub points: Vec<(f64, Spread)>,
}

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 480.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 690.0;
const TOP: f64 = 52.0;
const BOTTOM: f64 = 412.0;

const INK: &str = "#333333";
const GRID: &str = "#e2e2e2";

impl Plot<'_> {
    /// The plot as an SVG document.
    pub fn svg(&self) -> String {
        let mut svg = String::new();
        self.draw(&mut svg).expect("a string takes everything");
        svg
    }

    fn draw(&self, svg: &mut String) -> fmt::Result {
        let font = "font-family=\"DejaVu Sans, Verdana, sans-serif\"";
        writeln!(
            svg,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             width=\"{WIDTH}\" height=\"{HEIGHT}\" {font} font-size=\"13\" fill=\"{INK}\">"
        )?;
        writeln!(svg, "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>")?;
        text(svg, LEFT, 28.0, "start", 17, self.title)?;

        let x = Scale::over(
            self.ticks.iter().map(|(x, _)| *x),
            LEFT + 12.0,
            RIGHT - 12.0,
        );
        let spreads = self.lines.iter().flat_map(|line| &line.points);
        let extremes = spreads.flat_map(|(_, spread)| [spread.min, spread.max]);
        let y = Scale::over(extremes, BOTTOM - 8.0, TOP + 8.0);
        self.axes(svg, &x, &y)?;
        for line in &self.lines {
            line.draw(svg, &x, &y)?;
        }
        self.legend(svg)?;
        writeln!(svg, "</svg>")
    }

    fn axes(&self, svg: &mut String, x: &Scale, y: &Scale) -> fmt::Result {
        for (value, label) in &self.ticks {
            let at = x.place(*value);
            segment(svg, (at, TOP), (at, BOTTOM), GRID, 1.0)?;
            text(svg, at, BOTTOM + 20.0, "middle", 13, label)?;
        }
        for value in y.ticks() {
            let at = y.place(value);
            segment(svg, (LEFT, at), (RIGHT, at), GRID, 1.0)?;
            text(svg, LEFT - 8.0, at + 4.5, "end", 13, &short(value))?;
        }
        segment(svg, (LEFT, BOTTOM), (RIGHT, BOTTOM), INK, 1.0)?;
        segment(svg, (LEFT, TOP), (LEFT, BOTTOM), INK, 1.0)?;
        text(
            svg,
            (LEFT + RIGHT) / 2.0,
            BOTTOM + 46.0,
            "middle",
            14,
            self.x,
        )?;
        let (middle, aside) = ((TOP + BOTTOM) / 2.0, 22.0);
        write!(svg, "<g transform=\"rotate(-90 {aside} {middle})\">")?;
        text(svg, aside, middle, "middle", 14, self.y)?;
        writeln!(svg, "</g>")
    }

    /// The names in the order in which the lines end, from the top.
    fn legend(&self, svg: &mut String) -> fmt::Result {
        let mut lines: Vec<&Line> = self.lines.iter().collect();
        let end = |line: &Line| line.points.last().map_or(0.0, |(_, spread)| spread.median);
        lines.sort_by(|a, b| end(b).total_cmp(&end(a)));
        for (place, line) in lines.into_iter().enumerate() {
            let at = TOP + 12.0 + 24.0 * place as f64;
            segment(
                svg,
                (RIGHT + 16.0, at),
                (RIGHT + 44.0, at),
                line.colour,
                line.width(),
            )?;
            line.mark(svg, RIGHT + 30.0, at)?;
            text(svg, RIGHT + 52.0, at + 4.5, "start", 13, &line.name)?;
        }
        Ok(())
    }
}

impl Line {
    fn draw(&self, svg: &mut String, x: &Scale, y: &Scale) -> fmt::Result {
        let points: Vec<(f64, f64)> = self
            .points
            .iter()
            .map(|(at, spread)| (x.place(*at), y.place(spread.median)))
            .collect();
        for pair in points.windows(2) {
            segment(svg, pair[0], pair[1], self.colour, self.width())?;
        }
        for ((at, top), (_, spread)) in points.iter().zip(&self.points) {
            let (low, high) = (y.place(spread.min), y.place(spread.max));
            segment(svg, (*at, low), (*at, high), self.colour, 1.0)?;
            self.mark(svg, *at, *top)?;
        }
        Ok(())
    }

    fn width(&self) -> f64 {
        if self.strong { 3.0 } else { 1.5 }
    }

    fn mark(&self, svg: &mut String, x: f64, y: f64) -> fmt::Result {
        let (radius, colour) = (1.5 + self.width(), self.colour);
        writeln!(
            svg,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\" fill=\"{colour}\"/>"
        )
    }
}

/// A logarithmic axis.
struct Scale {
    lowest: f64,
    highest: f64,
    from: f64,
    to: f64,
}

impl Scale {
    /// An axis that shows all positive values between two places.
    fn over(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let (mut lowest, mut highest) = (f64::INFINITY, 0.0_f64);
        for value in values.filter(|value| *value > 0.0) {
            (lowest, highest) = (lowest.min(value), highest.max(value));
        }
        if lowest >= highest {
            (lowest, highest) = (highest.max(1e-9) / 2.0, highest.max(1e-9) * 2.0);
        }
        Self {
            lowest,
            highest,
            from,
            to,
        }
    }

    fn place(&self, value: f64) -> f64 {
        let value = value.max(self.lowest);
        let part = (value / self.lowest).ln() / (self.highest / self.lowest).ln();
        self.from + part * (self.to - self.from)
    }

    /// 1, 2 and 5 times the powers of ten, or the powers alone if that is enough.
    fn ticks(&self) -> Vec<f64> {
        let decades = self.lowest.log10().floor() as i32..=self.highest.log10().ceil() as i32;
        let many = self.highest / self.lowest > 2_000.0;
        let steps: &[f64] = if many { &[1.0] } else { &[1.0, 2.0, 5.0] };
        decades
            .flat_map(|decade| steps.iter().map(move |step| step * 10_f64.powi(decade)))
            .filter(|tick| (self.lowest..=self.highest).contains(tick))
            .collect()
    }
}

fn segment(
    svg: &mut String,
    (x1, y1): (f64, f64),
    (x2, y2): (f64, f64),
    colour: &str,
    width: f64,
) -> fmt::Result {
    writeln!(
        svg,
        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\" \
         stroke-width=\"{width}\" stroke-linecap=\"round\"/>"
    )
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, size: u32, text: &str) -> fmt::Result {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" font-size=\"{size}\">{text}</text>"
    )
}

/// A number with few digits: 20 M, 500 k, 0.05.
fn short(value: f64) -> String {
    let (value, unit) = match value {
        1e6.. => (value / 1e6, " M"),
        1e3.. => (value / 1e3, " k"),
        _ => (value, ""),
    };
    let text = format!("{value:.3}");
    format!("{}{unit}", text.trim_end_matches('0').trim_end_matches('.'))
}
