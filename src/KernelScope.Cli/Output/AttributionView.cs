using System.Globalization;
using Spectre.Console;

namespace KernelScope.Cli;

/// <summary>An attribution for people: for each token the features that matter most, then the sums with bars to both sides.</summary>
internal static class AttributionView
{
    private const int BarCells = 12;
    private static readonly Style Dim = new(decoration: Decoration.Dim);

    public static void Print(Streams streams, AttributeResult result, IReadOnlyDictionary<int, string> meanings, int bosId)
    {
        IAnsiConsole console = Terminal.Open(streams);
        Line(console, new Paragraph($"{Printable.Escape(result.Model)} · {result.SiteOut ?? result.Site} · {Printable.Escape(result.Sae)}",
            Dim));
        Line(console, new Paragraph($"{Metric(result)} = {Number(result.Value)}", new Style(decoration: Decoration.Bold)));
        console.WriteLine();
        PrintTokens(console, result, bosId);
        console.WriteLine();
        Line(console, new Paragraph("Summed over all tokens but <bos>; ablating a feature there changes the number by about minus its " +
            "share:", Dim));
        PrintSums(console, result, meanings);
    }

    private static void PrintTokens(IAnsiConsole console, AttributeResult result, int bosId)
    {
        var table = new Table().NoBorder().AddColumns("token", "feature: attribution");
        foreach (AttributedToken token in result.Tokens)
        {
            var line = new Paragraph();
            foreach (TokenAttribution feature in token.Features)
                line.Append(feature.Index.ToString(CultureInfo.InvariantCulture), token.Id == bosId ? Dim : ColourOf(feature.Attribution))
                    .Append($": {Signed(feature.Attribution)}  ", Dim);
            table.AddRow(new Paragraph(Printable.Escape(token.Text ?? $"id {token.Id}")), line);
        }

        console.Write(table);
    }

    private static void PrintSums(IAnsiConsole console, AttributeResult result, IReadOnlyDictionary<int, string> meanings)
    {
        double largest = result.Features.Count == 0 ? 1 : Math.Max(Math.Abs(result.Features[0].Attribution), double.Epsilon);
        var table = new Table().NoBorder().AddColumns("feature", "", "attribution", "");
        foreach (SummedAttribution feature in result.Features)
        {
            table.AddRow(
                new Paragraph(feature.Index.ToString(CultureInfo.InvariantCulture)),
                new Paragraph(Bars.Bar((float)(Math.Abs(feature.Attribution) / largest), BarCells), ColourOf(feature.Attribution)),
                new Paragraph(Signed(feature.Attribution)),
                new Paragraph(meanings.TryGetValue(feature.Index, out string? meaning) ? Printable.Escape(meaning) : "", Dim));
        }

        console.Write(table);
    }

    private static string Metric(AttributeResult result) => result.Metric switch
    {
        "next_token_loss" => "sum of the next-token losses (nats)",
        _ => $"logit of {Name(result.Target!)}{(result.Against is null ? "" : $" - logit of {Name(result.Against)}")} at " +
            $"position {result.Position}",
    };

    private static string Name(NamedToken token) => token.Text is string text ? $"“{Printable.Escape(text)}” ({token.Id})"
        : $"token {token.Id}";

    private static Style ColourOf(double attribution) => new(attribution < 0 ? Color.Orange1 : Color.Aqua);

    private static string Signed(double value) => value.ToString("+0.000;-0.000;0.000", CultureInfo.InvariantCulture);

    private static string Number(double value) => value.ToString("0.0000", CultureInfo.InvariantCulture);

    private static void Line(IAnsiConsole console, Paragraph content)
    {
        console.Write(content);
        console.WriteLine();
    }
}
