using System.Globalization;
using Spectre.Console;

namespace KernelScope.Cli;

/// <summary>A feature's strongest contexts for people, its token in brackets; tokens around on which it fires are shaded by how strongly.</summary>
internal static class TopView
{
    public static void Print(Streams streams, TopResult result)
    {
        IAnsiConsole console = Terminal.Open(streams);
        console.WriteLine($"{Printable.Escape(result.Model)} · {result.Site} · {Printable.Escape(result.Sae)} · " +
            $"feature {result.Feature}{(result.Meaning is null ? "" : $": {Printable.Escape(result.Meaning)}")}");
        console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"fires on {result.Active:N0} of {result.Counted:N0} tokens " +
            $"({result.FiringShare * 100:0.###}%)"));
        if (result.Active == 0)
            return;
        IEnumerable<string> quantiles = result.Quantiles.Select(q =>
            string.Create(CultureInfo.InvariantCulture, $"{q.Share * 100:0.#}%: {Number(q.Activation)}"));
        console.WriteLine($"where it does: mean {Number(result.Mean)}; {string.Join(", ", quantiles)}");
        console.WriteLine();
        var table = new Table().NoBorder().AddColumns("", "");
        float largest = result.Contexts.Max(c => c.Activation);
        foreach (ContextRow context in result.Contexts)
        {
            var line = new Paragraph();
            for (int i = 0; i < context.Tokens.Count; i++)
            {
                string text = Printable.Escape(context.Tokens[i].Text ?? $" {context.Tokens[i].Id}");
                if (i == context.Focus)
                    line.Append(text.StartsWith(' ') ? $" [{text[1..]}]" : $"[{text}]",
                        new Style(Color.Yellow, decoration: Decoration.Bold));
                else if (context.Activations[i] > 0)
                    line.Append(text, Shade(context.Activations[i] / largest));
                else
                    line.Append(text);
            }

            table.AddRow(new Paragraph(Bars.Value(context.Activation)), line);
        }

        console.Write(table);
    }

    /// <summary>From pale to strong, with letters that are read on all of them.</summary>
    private static Style Shade(float share)
    {
        float s = Math.Clamp(share, 0, 1);
        return new Style(Color.Black, new Color((byte)(255 - (15 * s)), (byte)(240 - (80 * s)), (byte)(205 - (175 * s))));
    }

    private static string Number(double value) => value.ToString("0.0##", CultureInfo.InvariantCulture);
}
