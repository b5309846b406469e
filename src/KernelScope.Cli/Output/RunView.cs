using System.Globalization;
using KernelScope.Text;
using Spectre.Console;

namespace KernelScope.Cli;

/// <summary>A forward pass for people: what the model expected of each token, and what it expects next.</summary>
internal static class RunView
{
    private const int BarCells = 12;

    public static void Print(Streams streams, RunResult result, GemmaTokenizer? tokenizer)
    {
        IAnsiConsole console = Terminal.Open(streams);
        var losses = new Table().NoBorder().AddColumns("", "token", "loss", "");
        float largest = Bars.Largest(result.NextTokenLoss.Select(l => new FeatureActivation(0, (float)l)));
        for (int t = 0; t < result.Tokens.Count; t++)
        {
            string text = Printable.Escape(TokenText.Of(tokenizer, result.Tokens[t]) ?? $"id {result.Tokens[t]}");
            double? loss = t == 0 ? null : result.NextTokenLoss[t - 1];
            losses.AddRow(
                new Paragraph(t.ToString(CultureInfo.InvariantCulture)),
                new Paragraph(text),
                new Paragraph(loss?.ToString("0.000", CultureInfo.InvariantCulture) ?? ""),
                new Paragraph(loss is double value ? Bars.Bar((float)value / largest, BarCells) : "", new Style(Color.Orange1)));
        }

        console.Write(losses);
        if (result.NextTokenLoss.Count > 0)
            console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"mean loss {result.NextTokenLoss.Average():0.0000} nats a " +
                $"token"));
        console.WriteLine();
        var next = new Table().NoBorder().AddColumns("next", "id", "logit", "p");
        foreach (TokenLogit token in result.Top)
            next.AddRow(new Paragraph(Printable.Escape(token.Text ?? "")), new Paragraph(token.Id.ToString(CultureInfo.InvariantCulture)),
                new Paragraph(token.Logit.ToString("0.000", CultureInfo.InvariantCulture)),
                new Paragraph(token.Probability.ToString("0.0000", CultureInfo.InvariantCulture)));
        console.Write(next);
        if (result.Against is DiffResult against)
        {
            console.WriteLine();
            DiffView.Print(streams, against);
        }
    }
}
