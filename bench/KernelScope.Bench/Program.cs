using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using KernelScope.Bench;
using KernelScope.Devices.Cpu;

// evaluation: what an evaluation costs beside the forward passes that it needs.
if (args is ["evaluation", ..])
{
    using var evaluated = new CpuDevice();
    return EvaluationCost.Run(evaluated, 16, 128);
}

// Otherwise ops against the machine's limits. Options: --rounds N, --threads N, --filter TEXT (cases whose name holds it), --folder DIR (for the file of random weights), --out FILE.json.
string? Option(string name)
{
    int at = Array.IndexOf(args, name);
    return at >= 0 && at + 1 < args.Length ? args[at + 1] : null;
}

int rounds = int.Parse(Option("--rounds") ?? "7", CultureInfo.InvariantCulture);
int threads = int.Parse(Option("--threads") ?? "0", CultureInfo.InvariantCulture);
string filter = Option("--filter") ?? "";
using var shapes = new Shapes(Option("--folder") ?? Path.GetTempPath());
using var device = new CpuDevice(threads);
using var cases = new Cases(device, shapes);
Case[] chosen = [.. cases.All.Where(c => c.Name.Contains(filter, StringComparison.Ordinal))];
Console.WriteLine($"{device.InstructionSet}, {device.Threads} threads, {rounds} rounds");
foreach (Case one in chosen)
    one.Run();

var limits = new List<(double Bandwidth, double Peak, double PeakOne)>();
var seconds = chosen.ToDictionary(c => c, _ => new List<double>());
var ratios = chosen.ToDictionary(c => c, _ => new List<double>());
for (int round = 0; round < rounds; round++)
{
    foreach (Case one in chosen)
    {
        // The limit is measured right before the case: the machine is shared, and a minute later it is another one.
        double limit = one.Bound == Bound.Bandwidth ? Bandwidth() : CpuLimits.Peak(device.Threads);
        double taken = Time(one);
        seconds[one].Add(taken);
        ratios[one].Add(one.Work / taken / limit);
    }

    limits.Add((Bandwidth(), CpuLimits.Peak(device.Threads), CpuLimits.Peak(1)));
}

Print("read bandwidth, GB/s", limits.ConvertAll(l => l.Bandwidth / 1e9));
Print("float32 peak, GFLOP/s", limits.ConvertAll(l => l.Peak / 1e9));
Print("float32 peak of one core", limits.ConvertAll(l => l.PeakOne / 1e9));
Console.WriteLine();
Console.WriteLine($"{"case",-36} {"ms",9} {"ratio to its limit: min",24} {"median",7} {"max",7}");
foreach (Case one in chosen)
{
    List<double> r = ratios[one];
    Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{one.Name,-36} {Median(seconds[one]) * 1e3,9:F3} {r.Min(),24:F2} {Median(r),7:F2} {r.Max(),7:F2}  of {(one.Bound == Bound.Bandwidth ? "bandwidth" : "peak")}"));
}

if (Option("--out") is { } path)
    WriteJson(path);
return 0;

unsafe double Bandwidth() => CpuLimits.ReadBandwidth(shapes.Filler.Pointer, shapes.Filler.ByteLength, device.Threads);

static double Time(Case one)
{
    // Long enough that the clock and the scheduler's whims matter little; never fewer than two runs.
    const double Enough = 0.05;
    long start = Stopwatch.GetTimestamp();
    int runs = 0;
    do
    {
        one.Run();
        runs++;
    }
    while (runs < 2 || Stopwatch.GetElapsedTime(start).TotalSeconds < Enough);
    return Stopwatch.GetElapsedTime(start).TotalSeconds / runs;
}

static double Median(List<double> values)
{
    double[] sorted = [.. values.Order()];
    return sorted[sorted.Length / 2];
}

static void Print(string name, List<double> values) =>
    Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{name,-26} {values.Min(),8:F1} {Median(values),8:F1} {values.Max(),8:F1}  (min, median, max)"));

void WriteJson(string path)
{
    using FileStream stream = File.Create(path);
    using var json = new Utf8JsonWriter(stream, new JsonWriterOptions { Indented = true });
    json.WriteStartObject();
    json.WriteString("instruction_set", device.InstructionSet);
    json.WriteNumber("threads", device.Threads);
    json.WriteNumber("rounds", rounds);
    json.WriteNumber("read_bandwidth", Median(limits.ConvertAll(l => l.Bandwidth)));
    json.WriteNumber("float32_peak", Median(limits.ConvertAll(l => l.Peak)));
    json.WriteStartArray("cases");
    foreach (Case one in chosen)
    {
        json.WriteStartObject();
        json.WriteString("name", one.Name);
        json.WriteString("bound", one.Bound == Bound.Bandwidth ? "bandwidth" : "peak");
        json.WriteNumber("seconds", Median(seconds[one]));
        json.WriteNumber("ratio_min", ratios[one].Min());
        json.WriteNumber("ratio_median", Median(ratios[one]));
        json.WriteNumber("ratio_max", ratios[one].Max());
        json.WriteEndObject();
    }

    json.WriteEndArray();
    json.WriteEndObject();
}
