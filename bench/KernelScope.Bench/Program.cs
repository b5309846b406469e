using System.Globalization;
using KernelScope.Bench;
using KernelScope.Bench.Cases;
using KernelScope.Devices.Cpu;

// evaluation [large]: what an evaluation costs beside the forward passes that it needs.
if (args is ["evaluation", ..])
{
    using var evaluated = new CpuDevice();
    return args.Contains("large") ? EvaluationCost.OfLarge(evaluated, turns: 2) : EvaluationCost.OfDemo(evaluated, turns: 5);
}

Options options;
try
{
    options = Options.Parse(args);
}
catch (ArgumentException wrong)
{
    Console.Error.WriteLine(wrong.Message);
    return 2;
}

Case[] chosen = [.. All(options).Where(one => options.Wants(one.Name))];
if (options.List)
{
    foreach (Case one in chosen)
        Console.WriteLine(one.Name);
    return 0;
}

if (chosen.Length == 0)
{
    Console.Error.WriteLine("No case has all these words in its name; --list prints the names.");
    return 2;
}

using var machine = new Machine(options);
Console.WriteLine($"{machine.Exact.InstructionSet}, {options.Threads} threads, {options.Rounds} rounds; ratios: median (minimum to maximum)");
PrintLimits();
var outcomes = new List<Outcome>();
foreach (Case one in chosen)
{
    outcomes.Add(Rounds.Run(one, machine));
    Report.Print(outcomes[^1]);
}

if (options.Out is { } path)
    Report.Write(path, machine, outcomes);
return 0;

static IEnumerable<Case> All(Options options) => [.. ProductCases.All(options), .. PackedCases.All(options), .. SaeCases.All(), .. AttentionCases.All()];

void PrintLimits()
{
    foreach (Bound bound in (ReadOnlySpan<Bound>)[Bound.Bandwidth, Bound.Float32, Bound.BFloat16])
    {
        string Of(int threads) => machine.Limits.Measure(bound, threads) is double limit ? (limit / 1e9).ToString("f1", CultureInfo.InvariantCulture) + " G/s" : "not there: this machine has no instruction for it";
        Console.WriteLine($"{Limits.Name(bound),-16} one core {Of(1)}, {options.Threads} threads {Of(options.Threads)}");
    }
}
