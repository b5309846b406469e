using System.Globalization;
using Spectre.Console;

namespace KernelScope.Cli;

/// <summary>A verification for people: a table of checks, then what failed and what was not run.</summary>
internal static class VerifyView
{
    public static void Print(Streams streams, VerifyResult result)
    {
        IAnsiConsole console = Terminal.Open(streams);
        console.WriteLine($"device {result.Device}, precision {result.Precision}, model {Printable.Escape(result.Model)}");
        console.WriteLine();
        var table = new Table().NoBorder().AddColumns("", "check", "shapes", "worst error", "limit");
        foreach (CheckRow check in result.Checks)
        {
            table.AddRow(
                new Paragraph(check.Ok ? "ok" : "FAIL", new Style(check.Ok ? Color.Green : Color.Red)),
                new Paragraph(Printable.OneLine(check.Name)),
                new Paragraph(check.Shapes?.ToString(CultureInfo.InvariantCulture) ?? ""),
                new Paragraph(Number(check.Measured)),
                new Paragraph(Number(check.Limit)));
        }

        console.Write(table);
        console.WriteLine();
        StreamWriter output = streams.Output;
        foreach (CheckRow check in result.Checks.Where(c => !c.Ok))
            output.WriteLine($"FAIL {Printable.OneLine(check.Name)}: {Printable.OneLine(check.Message ?? "")} [{check.Source}]");
        foreach (NotRunRow row in result.NotRun)
            output.WriteLine($"not run: {Printable.OneLine(row.Name)}: {Printable.OneLine(row.Reason)} " +
                $"[{row.Source}{(row.Tolerance is null ? "" : $"; {row.Tolerance}")}]");
        int failed = result.Checks.Count(c => !c.Ok);
        output.WriteLine(failed == 0 ? $"All {result.Checks.Count} checks agree; {result.NotRun.Count} were not run."
            : $"{failed} of {result.Checks.Count} checks failed; {result.NotRun.Count} were not run.");
    }

    private static string Number(double value) => double.IsFinite(value)
        ? value.ToString("0.##E+0", CultureInfo.InvariantCulture) is string text && value is not 0 and < 0.001 ? text
        : value.ToString("0.####", CultureInfo.InvariantCulture) : "none";
}
