using System.Globalization;
using System.Text;

namespace KernelScope.Evaluation;

/// <summary>One set of points of a plot.</summary>
/// <param name="Name">What the legend calls it.</param>
/// <param name="X">Abscissas; of bars and steps the edges, one more than there are ordinates.</param>
/// <param name="Y">Ordinates; NaN leaves a gap.</param>
internal sealed record Series(string Name, IReadOnlyList<double> X, IReadOnlyList<double> Y);

/// <summary>A point that is compared with others.</summary>
/// <param name="X">Abscissa.</param>
/// <param name="Y">Ordinate.</param>
/// <param name="Colour">Number of its colour.</param>
/// <param name="IsBeaten">Whether another is better in both: drawn grey, else bold.</param>
/// <param name="Label">Beside it, where there is room.</param>
/// <param name="Text">What is said where it is pointed at.</param>
internal sealed record Dot(double X, double Y, int Colour, bool IsBeaten, string Label, string Text);

/// <summary>How a series is drawn.</summary>
internal enum Mark
{
    Line,
    Points,
    Bars,

    /// <summary>Bars' outline, where several lie over each other; x holds their edges, one more than y.</summary>
    Steps,

    /// <summary>A dashed line that joins points; it has no name.</summary>
    Thread,
}

/// <summary>A plot as inline SVG: axes with ticks at round numbers, colours from the page's style sheet, a text for every mark that is pointed at.</summary>
internal sealed class SvgPlot(string title, string xLabel, string yLabel)
{
    private const int Width = 560;
    private const int Height = 300;
    private const int Left = 64;
    private const int Right = 16;
    private const int Top = 14;
    private const int Bottom = 44;
    private const int Colours = 8;

    private readonly List<(Series Series, Mark Mark, IReadOnlyList<double>? Low, IReadOnlyList<double>? High)> _series = [];

    private readonly List<Dot> _dots = [];
    private readonly List<(int Colour, string Name)> _keys = [];

    /// <summary>What the plot shows, in a sentence, for those who cannot see it.</summary>
    public string? Description { get; init; }

    /// <summary>Whether the x axis is logarithmic.</summary>
    public bool LogX { get; init; }

    /// <summary>Whether the y axis begins at 0.</summary>
    public bool FromZero { get; init; } = true;

    /// <summary>Adds a series, with the ends of intervals around its points if there are any.</summary>
    public void Add(Series series, Mark mark, IReadOnlyList<double>? low = null, IReadOnlyList<double>? high = null) =>
        _series.Add((series, mark, low, high));

    /// <summary>Adds a point that is compared with others.</summary>
    public void Add(Dot dot) => _dots.Add(dot);

    /// <summary>Adds a line to the legend: what a colour of points means.</summary>
    public void AddKey(int colour, string name) => _keys.Add((colour, name));

    /// <summary>The figure.</summary>
    public string Draw()
    {
        double[] xs = [.. _series.SelectMany(s => s.Series.X).Concat(_dots.Select(d => d.X)).Where(double.IsFinite)];
        double[] ys = [.. _series.SelectMany(s => s.Series.Y.Concat(s.Low ?? []).Concat(s.High ?? [])).Concat(_dots.Select(d => d.Y))
            .Where(double.IsFinite)];
        if (xs.Length == 0 || ys.Length == 0)
            return "";
        Axis x = new(Extent(xs, LogX, false), LogX, Left, Width - Right), y = new(Extent(ys, false, FromZero), false, Height - Bottom, Top);
        var svg = new StringBuilder();
        svg.Append(CultureInfo.InvariantCulture,
            $"<figure><figcaption>{Html.Escape(title)}</figcaption><svg viewBox=\"0 0 {Width} {Height}\" role=\"img\" "
                + $"aria-label=\"{Html.Escape(title)}\">");
        if (Description is string description)
            svg.Append("<title>").Append(Html.Escape(title)).Append("</title><desc>").Append(Html.Escape(description)).Append("</desc>");
        DrawAxes(svg, x, y);
        // What joins points lies below them.
        foreach ((Series thread, _, _, _) in _series.Where(s => s.Mark == Mark.Thread))
            svg.Append(CultureInfo.InvariantCulture, $"<path class=\"thread\" d=\"{Path(thread, x, y)}\"/>");
        for (int i = 0; i < _series.Count; i++)
            DrawSeries(svg, i, x, y);
        // The best lie on top.
        foreach (Dot dot in _dots.OrderBy(d => !d.IsBeaten))
            DrawDot(svg, dot, x, y);
        DrawNames(svg, x, y);
        svg.Append("</svg>");
        if (_series.Count + _keys.Count > 1)
            DrawLegend(svg);
        return svg.Append("</figure>").ToString();
    }

    private static (double Low, double High) Extent(double[] values, bool log, bool fromZero)
    {
        double low = values.Min(), high = values.Max();
        if (log)
            return (low / 1.25, high * 1.25);
        if (fromZero)
            (low, high) = (Math.Min(0, low), Math.Max(0, high));
        double margin = high > low ? 0.04 * (high - low) : Math.Max(1e-9, Math.Abs(high) * 0.1);
        return (low == 0 && fromZero ? 0 : low - margin, high + margin);
    }

    private void DrawAxes(StringBuilder svg, Axis x, Axis y)
    {
        foreach ((double value, string label) in x.Ticks())
            svg.Append(CultureInfo.InvariantCulture,
                $"<line class=\"grid\" x1=\"{x.At(value):0.#}\" x2=\"{x.At(value):0.#}\" y1=\"{Top}\" y2=\"{Height - Bottom}\"/><text "
                    + $"x=\"{x.At(value):0.#}\" y=\"{Height - Bottom + 16}\" text-anchor=\"middle\">{label}</text>");
        foreach ((double value, string label) in y.Ticks())
            svg.Append(CultureInfo.InvariantCulture,
                $"<line class=\"grid\" x1=\"{Left}\" x2=\"{Width - Right}\" y1=\"{y.At(value):0.#}\" y2=\"{y.At(value):0.#}\"/><text "
                    + $"x=\"{Left - 7}\" y=\"{y.At(value) + 4:0.#}\" text-anchor=\"end\">{label}</text>");
        svg.Append(CultureInfo.InvariantCulture,
            $"<text class=\"label\" x=\"{(Left + Width - Right) / 2}\" y=\"{Height - 6}\" "
                + $"text-anchor=\"middle\">{Html.Escape(xLabel)}</text>");
        svg.Append(CultureInfo.InvariantCulture,
            $"<text class=\"label\" transform=\"translate(14 {(Top + Height - Bottom) / 2}) rotate(-90)\" "
                + $"text-anchor=\"middle\">{Html.Escape(yLabel)}</text>");
    }

    private void DrawSeries(StringBuilder svg, int index, Axis x, Axis y)
    {
        (Series series, Mark mark, IReadOnlyList<double>? low, IReadOnlyList<double>? high) = _series[index];
        string colour = $"c{index % Colours}";
        switch (mark)
        {
            case Mark.Line:
                DrawLine(svg, series, colour, x, y);
                break;
            case Mark.Bars:
                DrawBars(svg, series, colour, x, y);
                break;
            case Mark.Steps:
                DrawSteps(svg, series, colour, x, y);
                break;
            case Mark.Thread:
                break;
            default:
                DrawPoints(svg, series, colour, low, high, x, y);
                break;
        }
    }

    private static void DrawPoints(StringBuilder svg, Series series, string colour, IReadOnlyList<double>? low, IReadOnlyList<double>? high,
        Axis x, Axis y)
    {
        for (int i = 0; i < series.X.Count; i++)
        {
            double atX = x.At(series.X[i]), atY = y.At(series.Y[i]);
            if (low is not null && double.IsFinite(low[i]) && double.IsFinite(high![i]))
                svg.Append(CultureInfo.InvariantCulture,
                    $"<line class=\"{colour} stroke\" x1=\"{atX:0.#}\" x2=\"{atX:0.#}\" y1=\"{y.At(low[i]):0.#}\" "
                        + $"y2=\"{y.At(high[i]):0.#}\"/>");
            svg.Append(CultureInfo.InvariantCulture,
                $"<circle class=\"{colour} fill\" cx=\"{atX:0.#}\" cy=\"{atY:0.#}\" r=\"4.5\"><title>{Html.Escape(series.Name)}: "
                    + $"{Html.Number(series.X[i])}, {Html.Number(series.Y[i])}</title></circle>");
        }
    }

    private static void DrawDot(StringBuilder svg, Dot dot, Axis x, Axis y) => svg.Append(CultureInfo.InvariantCulture,
        $"<circle class=\"{(dot.IsBeaten ? "beaten" : $"c{dot.Colour % Colours}")} fill\" cx=\"{x.At(dot.X):0.#}\" "
            + $"cy=\"{y.At(dot.Y):0.#}\" r=\"{(dot.IsBeaten ? "3.5" : "5")}\"><title>{Html.Escape(dot.Text)}</title></circle>");

    /// <summary>Names beside points, where there is room: right or left, above, below or level. One that has none is in the legend only.</summary>
    private void DrawNames(StringBuilder svg, Axis x, Axis y)
    {
        const double Letter = 6.2, Line = 12, Radius = 6;
        List<(double X, double Y, string Name, string Style)> points =
            [.. _series.Where(s => s.Mark == Mark.Points)
                .SelectMany(s => s.Series.X.Zip(s.Series.Y, (px, py) => (x.At(px), y.At(py), s.Series.Name, ""))),
            .. _dots.OrderBy(d => d.IsBeaten).Select(d => (x.At(d.X), y.At(d.Y), d.Label, d.IsBeaten ? " dim" : " best"))];
        List<(double Left, double Right, double Top, double Bottom)> taken =
            [.. points.Select(p => (p.X - Radius, p.X + Radius, p.Y - Radius, p.Y + Radius))];
        foreach ((double px, double py, string name, string style) in points)
        {
            double width = name.Length * Letter;
            foreach ((bool right, double down) in ((bool, double)[])[(true, -5), (false, -5), (true, 14), (false, 14), (true, -18),
                (false, -18), (true, 27), (false, 27)])
            {
                double left = right ? px + 8 : px - 8 - width, bottom = py + down;
                if (left < Left || left + width > Width - Right || bottom - Line < Top || bottom > Height - Bottom
                    || taken.Any(t => left < t.Right && left + width > t.Left && bottom - Line < t.Bottom && bottom > t.Top))
                    continue;
                taken.Add((left, left + width, bottom - Line, bottom));
                svg.Append(CultureInfo.InvariantCulture,
                    $"<text class=\"mark{style}\" x=\"{(right ? left : left + width):0.#}\" y=\"{bottom:0.#}\" "
                        + $"text-anchor=\"{(right ? "start" : "end")}\">{Html.Escape(name)}</text>");
                break;
            }
        }
    }

    private static void DrawLine(StringBuilder svg, Series series, string colour, Axis x, Axis y) =>
        svg.Append(CultureInfo.InvariantCulture,
            $"<path class=\"{colour} stroke\" d=\"{Path(series, x, y)}\"><title>{Html.Escape(series.Name)}</title></path>");

    private static StringBuilder Path(Series series, Axis x, Axis y)
    {
        var path = new StringBuilder();
        bool pen = false;
        for (int i = 0; i < series.X.Count; i++)
        {
            bool there = double.IsFinite(series.Y[i]);
            if (there)
                path.Append(CultureInfo.InvariantCulture, $"{(pen ? 'L' : 'M')}{x.At(series.X[i]):0.#} {y.At(series.Y[i]):0.#}");
            pen = there;
        }

        return path;
    }

    private static void DrawBars(StringBuilder svg, Series series, string colour, Axis x, Axis y)
    {
        for (int i = 0; i < series.Y.Count; i++)
        {
            if (series.Y[i] <= 0)
                continue;
            double left = x.At(series.X[i]), right = x.At(series.X[i + 1]);
            svg.Append(CultureInfo.InvariantCulture,
                $"<rect class=\"{colour} fill\" x=\"{left + 1:0.#}\" width=\"{right - left - 2:0.##}\" y=\"{y.At(series.Y[i]):0.#}\" "
                    + $"height=\"{y.At(0) - y.At(series.Y[i]):0.#}\"><title>{Html.Escape(series.Name)}: {Html.Number(series.Y[i])} "
                    + $"from {Html.Number(series.X[i])} to {Html.Number(series.X[i + 1])}</title></rect>");
        }
    }

    private static void DrawSteps(StringBuilder svg, Series series, string colour, Axis x, Axis y)
    {
        var path = new StringBuilder();
        path.Append(CultureInfo.InvariantCulture, $"M{x.At(series.X[0]):0.#} {y.At(0):0.#}");
        for (int i = 0; i < series.Y.Count; i++)
            path.Append(CultureInfo.InvariantCulture, $"V{y.At(series.Y[i]):0.#}H{x.At(series.X[i + 1]):0.#}");
        path.Append(CultureInfo.InvariantCulture, $"V{y.At(0):0.#}");
        svg.Append(CultureInfo.InvariantCulture,
            $"<path class=\"{colour} stroke\" d=\"{path}\"><title>{Html.Escape(series.Name)}</title></path>");
    }

    private void DrawLegend(StringBuilder svg)
    {
        svg.Append("<p class=\"legend\">");
        for (int i = 0; i < _series.Count && _series[i].Mark != Mark.Thread; i++)
            svg.Append(CultureInfo.InvariantCulture, $"<span><i class=\"c{i % Colours}\"></i>{Html.Escape(_series[i].Series.Name)}</span>");
        foreach ((int colour, string name) in _keys)
            svg.Append(CultureInfo.InvariantCulture, $"<span><i class=\"c{colour % Colours}\"></i>{Html.Escape(name)}</span>");
        svg.Append("</p>");
    }

    /// <summary>Values to coordinates.</summary>
    private readonly record struct Axis((double Low, double High) Extent, bool Log, double From, double To)
    {
        public double At(double value)
        {
            (double low, double high) = Log ? (Math.Log10(Extent.Low), Math.Log10(Extent.High)) : Extent;
            return From + ((To - From) * ((Log ? Math.Log10(value) : value) - low) / (high - low));
        }

        /// <summary>Round numbers: 1, 2, 5 and their tenfolds.</summary>
        public IEnumerable<(double Value, string Label)> Ticks()
        {
            if (Log)
            {
                for (double decade = Math.Pow(10, Math.Floor(Math.Log10(Extent.Low))); decade <= Extent.High; decade *= 10)
                {
                    foreach (double digit in Extent.High > 10 * Extent.Low ? (double[])[1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 7])
                    {
                        double value = digit * decade;
                        if (value >= Extent.Low && value <= Extent.High)
                            yield return (value, Html.Number(value));
                    }
                }

                yield break;
            }

            double raw = (Extent.High - Extent.Low) / 6, power = Math.Pow(10, Math.Floor(Math.Log10(raw)));
            double step = power * ((raw / power) switch { < 1.5 => 1, < 3.5 => 2, < 7.5 => 5, _ => 10 });
            for (double k = Math.Ceiling(Extent.Low / step); k * step <= Extent.High; k++)
                yield return (k * step, Html.Number(k * step));
        }
    }
}
