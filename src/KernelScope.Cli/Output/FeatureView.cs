using System.Globalization;
using Spectre.Console;
using Spectre.Console.Rendering;

namespace KernelScope.Cli;

/// <summary>
/// Features of a text for people: the tokens in a row, below each its strongest features with their activations as bars, and in words what is known of a feature.
/// </summary>
internal sealed class FeatureView
{
    private const int BarCells = 6;
    private const int ValueCells = 6;
    private const int Gap = 2;
    private const int MostKnown = 24;
    private static readonly Color[] Palette = [Color.Yellow, Color.Aqua, Color.Lime, Color.Fuchsia, Color.Orange1, Color.SkyBlue1,
        Color.SpringGreen1, Color.HotPink];
    private readonly IAnsiConsole _console;
    private readonly FeaturesResult _result;
    private readonly KnownFeatures _known;
    private readonly IReadOnlySet<int>? _hidden;
    private readonly int _bosId;
    private readonly int _indexCells;
    private readonly float _largest;

    private FeatureView(IAnsiConsole console, FeaturesResult result, int featureCount, KnownFeatures known,
        IReadOnlySet<int>? hidden, int bosId)
    {
        _console = console;
        _result = result;
        _known = known;
        _hidden = hidden;
        _bosId = bosId;
        _indexCells = (featureCount - 1).ToString(CultureInfo.InvariantCulture).Length;
        _largest = Bars.Largest(result.Tokens.Where(t => t.Id != bosId).SelectMany(t => t.Features));
    }

    /// <summary>Prints a result.</summary>
    public static void Print(Streams streams, FeaturesResult result, int featureCount, KnownFeatures known,
        IReadOnlySet<int>? hidden, int bosId)
    {
        var view = new FeatureView(Terminal.Open(streams), result, featureCount, known, hidden, bosId);
        view.Print(featureCount);
    }

    private void Print(int featureCount)
    {
        Line(new Paragraph(string.Create(CultureInfo.InvariantCulture, $"{Printable.Escape(_result.Model)} · {_result.Site} " +
            $"· {Printable.Escape(_result.Sae)} · {featureCount:N0} features"), new Style(decoration: Decoration.Dim)));
        int column = _indexCells + 1 + BarCells + 1 + ValueCells;
        int columns = Math.Max(1, (_console.Profile.Width + Gap) / (column + Gap));
        for (int start = 0; start < _result.Tokens.Count; start += columns)
            Band([.. _result.Tokens.Skip(start).Take(columns)], column);
        Legend();
    }

    private void Band(TokenFeatures[] tokens, int width)
    {
        var grid = new Grid();
        for (int i = 0; i < tokens.Length; i++)
            grid.AddColumn(new GridColumn
            {
                Width = width,
                NoWrap = true,
                Padding = new Padding(0, 0, i + 1 < tokens.Length ? Gap : 0, 0)
            });
        _console.WriteLine();
        grid.AddRow([.. tokens.Select(Head)]);
        int rows = Math.Max(1, tokens.Max(t => t.Features.Count));
        for (int k = 0; k < rows; k++)
            grid.AddRow([.. tokens.Select(t => Cell(t, k))]);
        _console.Write(grid);
    }

    private IRenderable Head(TokenFeatures token)
    {
        string text = Printable.Escape(token.Text ?? $"id {token.Id}");
        var style = token.Id == _bosId ? new Style(decoration: Decoration.Dim)
            : new Style(decoration: Decoration.Bold | Decoration.Underline);
        // A space before a word is part of the token; a dot makes it visible.
        string shown = text.StartsWith(' ') ? "·" + text[1..] : text;
        return new Paragraph(shown, style) { Overflow = Overflow.Ellipsis };
    }

    private Paragraph Cell(TokenFeatures token, int k)
    {
        if (k >= token.Features.Count)
            return new Paragraph(k == 0 ? "–" : "", new Style(decoration: Decoration.Dim));
        FeatureActivation feature = token.Features[k];
        string index = feature.Index.ToString(CultureInfo.InvariantCulture).PadLeft(_indexCells);
        string value = Bars.Value(feature.Activation).PadLeft(ValueCells);
        if (token.Id == _bosId)
            return new Paragraph($"{index} {new string(' ', BarCells)} {value}", new Style(decoration: Decoration.Dim));
        Style style = StyleOf(feature.Index);
        return new Paragraph().Append(index, style).Append(" ").Append(Bars.Bar(feature.Activation / _largest, BarCells), style).Append(" ")
            .Append(value, new Style(decoration: Decoration.Dim));
    }

    private Style StyleOf(int feature) => _known.Rank(feature) is int rank
        ? new Style(Palette[rank % Palette.Length], decoration: Decoration.Bold) : Style.Plain;

    private void Legend()
    {
        _console.WriteLine();
        HashSet<int> inCells = [.. _result.Tokens.Where(t => t.Id != _bosId).SelectMany(t => t.Features).Select(f => f.Index)];
        // What the cells show comes first: a label far below them explains nothing that is seen.
        KnownFeature[] named = [.. _known.Seen.Where(f => inCells.Contains(f.Index)).Take(MostKnown)];
        foreach (KnownFeature feature in named)
        {
            string token = Printable.Escape(_result.Tokens[feature.Position].Text ?? "").Trim();
            Line(new Paragraph()
                .Append(feature.Index.ToString(CultureInfo.InvariantCulture).PadLeft(_indexCells), StyleOf(feature.Index))
                .Append($"  {Printable.Escape(feature.Meaning)}")
                .Append($"  ({Bars.Value(feature.Activation)} on “{token}”)", new Style(decoration: Decoration.Dim)));
        }

        if (_known.Seen.Count > named.Length)
            Note($"and {_known.Seen.Count - named.Length:N0} weaker ones that have labels; a larger --top shows them.");
        if (_hidden is not null)
            Note($"{_hidden.Count:N0} features that fire on more than a fifth of all tokens are left out; --dense shows them.");
        if (_result.Tokens.Any(t => t.Id == _bosId && t.Features.Count > 0))
            Note($"<bos> begins every text. SAEs are not trained on it: what fires there means nothing.");

        void Note(FormattableString text) =>
            Line(new Paragraph(text.ToString(CultureInfo.InvariantCulture), new Style(decoration: Decoration.Dim)));
    }

    private void Line(IRenderable content)
    {
        _console.Write(content);
        _console.WriteLine();
    }
}
