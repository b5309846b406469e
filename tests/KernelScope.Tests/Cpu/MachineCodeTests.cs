using System.Globalization;
using System.Runtime.InteropServices;
using Iced.Intel;
using KernelScope.Cpu.MachineCode;
using KernelScope.Measuring;

namespace KernelScope.Tests.Cpu;

/// <summary>The code that is assembled at run time: what it may touch, and where it lies.</summary>
public sealed unsafe class MachineCodeTests
{
    public static TheoryData<string, bool> Pieces()
    {
        TheoryData<string, bool> pieces = [];
        foreach (string piece in (string[])["tall", "low", "loop"])
        {
            pieces.Add(piece, false);
            pieces.Add(piece, true);
        }

        return pieces;
    }

    /// <summary>
    /// System V: rax, rcx, rdx, rsi, rdi, r8 to r11 and all vector registers are free. Windows: rdi, rsi are not, nor xmm6 to xmm15 (their upper parts are):
    /// they are stored before anything else and are what they were at the end.
    /// </summary>
    [Theory]
    [MemberData(nameof(Pieces))]
    public void Code_uses_registers_of_its_own_only(string piece, bool windows)
    {
        Instruction[] code = Decode(Bytes(piece, windows));
        HashSet<Register> free = [Register.RAX, Register.RCX, Register.RDX, Register.R8, Register.R9, Register.R10, Register.R11];
        HashSet<Register> stored = [], restored = [];
        var information = new InstructionInfoFactory();
        int depth = 0;
        foreach (Instruction instruction in code)
        {
            if (instruction.Mnemonic == Mnemonic.Ret)
                break;
            if (instruction.Op0Register == Register.RSP)
            {
                int bytes = (int)instruction.Immediate32;
                depth += instruction.Mnemonic == Mnemonic.Sub ? bytes : -bytes;
                continue;
            }

            if (instruction.MemoryBase == Register.RSP)
            {
                bool store = instruction.Op0Kind == OpKind.Memory;
                Register vector = store ? instruction.Op1Register : instruction.Op0Register;
                Assert.Equal((ulong)(vector - Register.XMM6) * 16, instruction.MemoryDisplacement64);
                Assert.InRange(instruction.MemoryDisplacement64 + 16, 0ul, (ulong)depth);
                Assert.True((store ? stored : restored).Add(vector));
                continue;
            }

            foreach (UsedRegister used in information.GetInfo(instruction).GetUsedRegisters())
            {
                if (used.Access is OpAccess.Read or OpAccess.CondRead or OpAccess.None)
                    continue;
                if (used.Register.IsGPR())
                    Assert.Contains(used.Register.GetFullRegister(), free);
                else if (windows && used.Register.IsVectorRegister() && used.Register.GetNumber() is >= 6 and <= 15
                    && instruction.Mnemonic != Mnemonic.Vzeroupper)
                    Assert.True(stored.Contains(Register.XMM0 + used.Register.GetNumber()) && restored.Count == 0, instruction.ToString());
            }
        }

        Assert.Equal(Mnemonic.Ret, code[^1].Mnemonic);
        Assert.Equal(0, depth);
        Assert.Equal(windows ? 10 : 0, stored.Count);
        Assert.Equal(stored, restored);
    }

    [Theory]
    [InlineData("tall", 12)]
    [InlineData("low", 6)]
    public void Tiles_multiply_by_vdpbf16ps_and_read_the_fields_where_they_are(string piece, int rows)
    {
        Instruction[] code = Decode(Bytes(piece, windows: false));
        // Two steps in the loop, one for an odd pair.
        Assert.Equal(3 * 2 * rows, code.Count(i => i.Mnemonic == Mnemonic.Vdpbf16ps));
        ulong[] offsets = [.. code.Where(i => i.MemoryBase == Register.RDI).Select(i => i.MemoryDisplacement64)];
        string[] fields =
            [nameof(Bf16Tile.A), nameof(Bf16Tile.B), nameof(Bf16Tile.C), nameof(Bf16Tile.StrideBytes), nameof(Bf16Tile.Pairs),
                nameof(Bf16Tile.Add)];
        Assert.Equal(fields.Select(field => (ulong)Marshal.OffsetOf<Bf16Tile>(field)), offsets);
    }

    [SkippableFact]
    public void Memory_with_code_cannot_be_written()
    {
        Skip.IfNot(OperatingSystem.IsLinux());
        using ExecutableMemory? memory = ExecutableMemory.TryCreate([0xC3]);
        Skip.If(memory is null, "the system allows no new code");
        nuint address = (nuint)memory.Start;
        string line = File.ReadLines("/proc/self/maps")
            .Single(l => l.Split(' ')[0].Split('-') is [string from, string to] && Hex(from) <= address && address < Hex(to));
        Assert.Equal("r-xp", line.Split(' ')[1]);
        memory.Dispose();
        Assert.True(memory.Start == null);

        static nuint Hex(string digits) => (nuint)ulong.Parse(digits, NumberStyles.HexNumber, CultureInfo.InvariantCulture);
    }

    [Fact]
    public void The_peak_is_measured_where_the_instruction_is()
    {
        double? peak = CpuLimits.Bf16Peak(1);
        Assert.Equal(Bf16Code.IsSupported, peak is not null);
        if (peak is double value)
            Assert.InRange(value, 1e9, 1e14);
    }

    private static byte[] Bytes(string piece, bool windows) => piece switch
    {
        "tall" => Bf16Assembly.Tile(Bf16Code.TallRows, windows),
        "low" => Bf16Assembly.Tile(Bf16Code.LowRows, windows),
        _ => Bf16Assembly.PeakLoop(windows),
    };

    /// <summary>Instructions up to the return; zeros follow.</summary>
    private static Instruction[] Decode(byte[] bytes)
    {
        var decoder = Decoder.Create(64, new ByteArrayCodeReader(bytes));
        List<Instruction> all = [];
        do
            all.Add(decoder.Decode());
        while (all[^1].Mnemonic != Mnemonic.Ret);
        return [.. all];
    }
}
