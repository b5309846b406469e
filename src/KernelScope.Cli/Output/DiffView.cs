using System.Globalization;
using Spectre.Console;

namespace KernelScope.Cli;

/// <summary>A comparison for people: where the two part, then every array.</summary>
internal static class DiffView
{
    public static void Print(Streams streams, DiffResult result)
    {
        IAnsiConsole console = Terminal.Open(streams);
        StreamWriter output = streams.Output;
        output.WriteLine(Headline(result));
        output.WriteLine();
        var table = new Table().NoBorder().AddColumns("", "array", "NMSE", "largest difference", "largest value", "");
        foreach (ArrayDiffRow row in result.Arrays)
        {
            table.AddRow(
                new Paragraph(row.Parts ? "parts" : "same", new Style(row.Parts ? Color.Red : Color.Green)),
                new Paragraph(Printable.Escape(row.Name)),
                new Paragraph(row.Compared ? Number(row.Nmse) : ""),
                new Paragraph(row.Compared ? Number(row.MaxDifference) : "not compared"),
                new Paragraph(row.Compared ? Number(row.Largest) : ""),
                new Paragraph(Printable.OneLine(row.Note ?? "")));
        }

        if (result.Arrays.Count > 0)
            console.Write(table);
        foreach (string name in result.OnlyInA)
            output.WriteLine($"only in {Printable.Escape(result.A)}: {Printable.Escape(name)}");
        foreach (string name in result.OnlyInB)
            output.WriteLine($"only in {Printable.Escape(result.B)}: {Printable.Escape(name)}");
    }

    private static string Headline(DiffResult result)
    {
        if (result.Arrays.Count == 0)
            return "Different: they have no array in common.";
        if (result.Arrays.FirstOrDefault(a => a.Parts) is not ArrayDiffRow parting)
        {
            int alone = result.OnlyInA.Count + result.OnlyInB.Count;
            string agree = result.Arrays.Count == 1 ? "the one array in common agrees"
                : $"the {result.Arrays.Count} arrays in common agree";
            return alone == 0 ? $"Same: {agree}." : $"Different: {agree}, and {alone} {(alone == 1 ? "is" : "are")} in one of them only.";
        }


        string name = Printable.Escape(parting.Name);
        return parting.First is DepartureRow first
            ? string.Create(CultureInfo.InvariantCulture, $"Different: they part at {name}, position {first.Position}, " +
            $"element {first.Element}: {first.A:G9} and {first.B:G9}.")
            : $"Different: they part at {name}, which cannot be compared: {Printable.OneLine(parting.Note ?? "it holds no numbers")}.";
    }

    private static string Number(double value) => value.ToString("G4", CultureInfo.InvariantCulture);
}
