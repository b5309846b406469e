using System.Globalization;
using Spectre.Console;

namespace KernelScope.Cli;

/// <summary>Tokens as they come, one a line, each with its strongest features.</summary>
internal sealed class TokenLines(Streams streams, int featureCount)
{
    private const int TokenCells = 16;
    private const int BarCells = 4;
    private const int Gap = 2;
    private readonly IAnsiConsole _console = Terminal.Open(streams);
    private readonly int _indexCells = (featureCount - 1).ToString(CultureInfo.InvariantCulture).Length;
    private float _largest = 1;

    /// <summary>Prints a token. Bars are as long as the largest activation so far allows.</summary>
    /// <param name="token">The token.</param>
    /// <param name="head">What stands before its features.</param>
    public void Print(TokenFeatures token, string head)
    {
        _largest = Math.Max(_largest, Bars.Largest(token.Features));
        int fitting = Math.Max(1, (_console.Profile.Width - TokenCells) / (_indexCells + 1 + BarCells + 1 + 6 + Gap));
        var grid = new Grid();
        grid.AddColumn(new GridColumn { Width = TokenCells, NoWrap = true, Padding = new Padding(0) });
        grid.AddColumn(new GridColumn { NoWrap = true, Padding = new Padding(0) });
        var line = new Paragraph();
        foreach (FeatureActivation feature in token.Features.Take(fitting))
        {
            string index = feature.Index.ToString(CultureInfo.InvariantCulture).PadLeft(_indexCells);
            line.Append($"{index} ").Append(Bars.Bar(feature.Activation / _largest, BarCells), new Style(Color.Aqua))
                .Append($" {Bars.Value(feature.Activation),-6}  ", new Style(decoration: Decoration.Dim));
        }

        grid.AddRow(new Paragraph(head, new Style(decoration: Decoration.Bold)) { Overflow = Overflow.Ellipsis }, line);
        _console.Write(grid);
        streams.Output.Flush();
    }
}
