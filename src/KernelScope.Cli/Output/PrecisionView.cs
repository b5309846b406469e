using System.Globalization;
using System.Text.Encodings.Web;
using System.Text.Json;
using KernelScope.Evaluation;
using Spectre.Console;

namespace KernelScope.Cli;

/// <summary>A precision study on standard output.</summary>
internal static class PrecisionView
{
    /// <summary>For people: each number in both precisions, and whether the same features are active.</summary>
    public static void Print(Streams streams, PrecisionStudy study, string what, string device)
    {
        IAnsiConsole console = Terminal.Open(streams);
        string fast = what == "both" ? "the products of the model and of SAE encoders" : "the products of the model, SAEs exact";
        console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{study.Tokens.Count:N0} sequences of up " +
            $"to {study.Tokens.Length:N0} tokens; {study.Counts["act_mask"]:N0} positions count; device {device}; fast: {fast}"));
        foreach (SaePrecision sae in study.Saes)
        {
            console.WriteLine();
            console.WriteLine($"{Printable.Escape(sae.Exact.Name)} at {sae.Exact.Site}");
            var table = new Table().NoBorder().AddColumns("", "exact", "fast", "fast - exact",
                string.Create(CultureInfo.InvariantCulture, $"{100 * study.Bootstrap.Level:0.#} % interval"));
            foreach (PrecisionRow row in sae.Rows)
                table.AddRow(Name(row), Number(row.Exact), Number(row.Fast), Number(row.Difference), double.IsFinite(row.Low)
                    ? $"{Number(row.Low)} to {Number(row.High)}" : "");
            console.Write(table);
            ActiveSetAgreement sets = sae.ActiveSets;
            console.WriteLine(string.Create(CultureInfo.InvariantCulture,
                $"active sets: the same at {sets.Identical:N0} of {sets.Positions:N0} positions; {sets.Both:N0} features in " +
                $"both, {sets.Exact - sets.Both:N0} in exact alone, {sets.Fast - sets.Both:N0} in fast alone " +
                $"({100 * sets.Share:0.####} % shared)"));
        }
    }

    /// <summary>For programs: one JSON document.</summary>
    public static void WriteJson(Streams streams, PrecisionStudy study, string model, string what, string device)
    {
        streams.Output.Flush();
        using (var json = new Utf8JsonWriter(streams.OutputBytes,
            new JsonWriterOptions { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
            study.Write(json, model, what, device);
        streams.OutputBytes.Write("\n"u8);
        streams.OutputBytes.Flush();
    }

    private static string Name(PrecisionRow row) => PrecisionStudy.NameOf(row) switch
    {
        "fvu" => "FVU",
        "ce_clean" => "CE clean",
        "ce" => "CE spliced",
        "delta" => "delta loss",
        "kl" => "KL",
        string name => name,
    };

    private static string Number(double value) => double.IsFinite(value) ? value.ToString("G5", CultureInfo.InvariantCulture)
        : "not defined";
}
