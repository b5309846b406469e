using System.Buffers.Binary;
using System.Globalization;
using KernelScope.PtxEmulator;

namespace KernelScope.PtxRun;

/// <summary>What is printed.</summary>
internal static class Report
{
    public static void Kernels(PtxModule module)
    {
        Console.WriteLine(Line($"{module.Name}: PTX {module.Version} for {module.Target}"));
        foreach (PtxKernel kernel in module.Kernels)
        {
            RegisterCounts registers = kernel.Registers;
            Console.WriteLine(
                string.Create(CultureInfo.InvariantCulture,
                    $"{kernel.Name} (line {kernel.Line}): {kernel.ParameterBytes} bytes of parameters, {kernel.StaticSharedBytes} of "
                    + $"shared memory{(kernel.UsesDynamicShared ? " and dynamic" : "")}, {kernel.LocalBytes} of depots; registers "
                    + $"declared: {registers.Predicate} pred, {registers.Bits16} of 16, {registers.Bits32} of 32, {registers.Bits64} "
                    + $"of 64 bits"));
            foreach (PtxParameter parameter in kernel.Parameters)
                Console.WriteLine(Line($"  {parameter.Offset,5}  {parameter.Size,3}  {parameter.Name}"));
            if (kernel.DynamicLocalLines.Count > 0)
                Console.WriteLine(Line($"  .local indexed at run time in lines {string.Join(", ", kernel.DynamicLocalLines)}"));
        }
    }

    public static void Counters(LaunchResult result)
    {
        Console.WriteLine(
            Line($"{result.Blocks:N0} blocks, {result.WarpInstructions:N0} warp and {result.ThreadInstructions:N0} thread instructions"));
        foreach (InstructionClass @class in Enum.GetValues<InstructionClass>())
            if (result.Threads(@class) > 0)
                Console.WriteLine(Line($"  {@class,-14} {result.Threads(@class),15:N0}"));
        Console.WriteLine(Line($"global loads   {Global(result.GlobalLoads)}"));
        Console.WriteLine(Line($"global stores  {Global(result.GlobalStores)}"));
        Console.WriteLine(Line($"shared loads   {Shared(result.SharedLoads)}"));
        Console.WriteLine(Line($"shared stores  {Shared(result.SharedStores)}"));
        Console.WriteLine(Line($"divergent branches {result.DivergentBranches:N0}, barriers {result.WarpBarriers:N0}"));
    }

    public static void Lines(LaunchResult result)
    {
        foreach (InstructionCount count in result.Instructions)
        {
            string notes = "";
            if (count.GlobalLoad.Requests > 0)
                notes += "  load " + Global(count.GlobalLoad);
            if (count.GlobalStore.Requests > 0)
                notes += "  store " + Global(count.GlobalStore);
            if (count.SharedLoad.Requests + count.SharedStore.Requests > 0)
                notes += Line($"  {count.SharedLoad.ExtraWavefronts + count.SharedStore.ExtraWavefronts:N0} extra wavefronts");
            Console.WriteLine(Line($"{count.Line,5} {count.WarpExecutions,12:N0} {count.ThreadExecutions,14:N0}  {count.Text}{notes}"));
        }
    }

    public static void Head(EmulatedGpu gpu, Run.Buffer buffer)
    {
        var bytes = new byte[Math.Min(8, buffer.Count) * buffer.ElementBytes];
        gpu.Read(buffer.Address, bytes);
        var values = Enumerable.Range(0, bytes.Length / buffer.ElementBytes)
            .Select(i => Value(bytes.AsSpan(i * buffer.ElementBytes), buffer.Type));
        Console.WriteLine($"{buffer.Name}: {string.Join(" ", values)}{(buffer.Count > 8 ? " …" : "")}");
    }

    private static string Value(ReadOnlySpan<byte> bytes, string type) => type switch
    {
        "f32" => BinaryPrimitives.ReadSingleLittleEndian(bytes).ToString("G6", CultureInfo.InvariantCulture),
        "i32" => BinaryPrimitives.ReadInt32LittleEndian(bytes).ToString(CultureInfo.InvariantCulture),
        "u16" => BinaryPrimitives.ReadUInt16LittleEndian(bytes).ToString(CultureInfo.InvariantCulture),
        _ => bytes[0].ToString(CultureInfo.InvariantCulture),
    };

    private static string Global(GlobalTraffic traffic) =>
        string.Create(CultureInfo.InvariantCulture,
            $"{traffic.Requests:N0} requests, {traffic.Sectors:N0} sectors, {traffic.UsefulBytes:N0} of {traffic.MovedBytes:N0} bytes "
            + $"useful");

    private static string Shared(SharedTraffic traffic) =>
        Line($"{traffic.Requests:N0} requests, {traffic.Wavefronts:N0} wavefronts, {traffic.ExtraWavefronts:N0} of them extra");

    private static string Line(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);
}
