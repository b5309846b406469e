using System.Globalization;
using Spectre.Console;

namespace KernelScope.Cli;

/// <summary>A lens for people.</summary>
internal static class LensView
{
    private static readonly Style Dim = new(decoration: Decoration.Dim);

    public static void Print(Streams streams, LensResult result)
    {
        IAnsiConsole console = Terminal.Open(streams);
        console.WriteLine($"{Printable.Escape(result.Model)} · {result.Site} · top tokens through the final norm, the unembedding and " +
            "the soft-cap");
        console.WriteLine();
        var table = new Table().NoBorder().AddColumns("", "token", "points to");
        for (int t = 0; t < result.Tokens.Count; t++)
        {
            var line = new Paragraph();
            foreach (LensTokenRow token in result.Tokens[t].Top)
                line.Append(Shown(token.Id, token.Text))
                    .Append(string.Create(CultureInfo.InvariantCulture, $" {token.Probability * 100:0.#}%  "), Dim);
            table.AddRow(new Paragraph(t.ToString(CultureInfo.InvariantCulture)),
                new Paragraph(Shown(result.Tokens[t].Id, result.Tokens[t].Text), new Style(decoration: Decoration.Bold)), line);
        }

        console.Write(table);
    }

    public static void Print(Streams streams, FeatureLensResult result)
    {
        IAnsiConsole console = Terminal.Open(streams);
        console.WriteLine($"{Printable.Escape(result.Model)} · {result.Site} · {Printable.Escape(result.Sae)} · " +
            $"feature {result.Feature}{(result.Meaning is null ? "" : $": {Printable.Escape(result.Meaning)}")}");
        Print(console, "W_dec[f] with the final norm's gain, times the unembedding", result.WithGain);
        Print(console, "W_dec[f] times the unembedding, without the gain", result.WithoutGain);
    }

    private static void Print(IAnsiConsole console, string title, PromotedRows rows)
    {
        console.WriteLine();
        console.WriteLine(title);
        var table = new Table().NoBorder().AddColumns("promotes", "", "suppresses", "");
        foreach ((PromotedRow top, PromotedRow bottom) in rows.Top.Zip(rows.Bottom))
            table.AddRow(new Paragraph(Shown(top.Id, top.Text)), Value(top), new Paragraph(Shown(bottom.Id, bottom.Text)), Value(bottom));
        console.Write(table);
    }

    private static Paragraph Value(PromotedRow row) => new(row.Value.ToString("0.000", CultureInfo.InvariantCulture), Dim);

    private static string Shown(int id, string? text) => text is null ? $"id {id}" : text.StartsWith(' ')
        ? $"·{Printable.Escape(text[1..])}" : Printable.Escape(text);
}
