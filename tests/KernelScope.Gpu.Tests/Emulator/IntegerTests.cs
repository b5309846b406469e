namespace KernelScope.Gpu.Tests.Emulator;

/// <summary>Integer instructions against C#, over edge values.</summary>
public class IntegerTests
{
    private static readonly uint[] Edges =
        [0, 1, 2, 3, 7, 31, 32, 33, 63, 64, 255, 256, 0x7FFF, 0x8000, 0xFFFF, 0x1_0000, 0x7FFF_FFFF, 0x8000_0000, 0x8000_0001,
            0xFFFF_FFFE, 0xFFFF_FFFF, 0x1234_5678, 0xDEAD_BEEF];

    private static readonly ulong[] Edges64 =
        [0, 1, 2, 63, 64, 65, 0xFFFF_FFFF, 0x1_0000_0000, 0x7FFF_FFFF_FFFF_FFFF, 0x8000_0000_0000_0000, 0x8000_0000_0000_0001,
            ulong.MaxValue, 0x0123_4567_89AB_CDEF];

    public static TheoryData<string, Func<uint, uint, uint, uint>> Words { get; } = new()
    {
        { "add.u32 %r13, %r10, %r11;", (a, b, _) => a + b },
        { "sub.s32 %r13, %r10, %r11;", (a, b, _) => a - b },
        { "mul.lo.s32 %r13, %r10, %r11;", (a, b, _) => a * b },
        { "mul.hi.u32 %r13, %r10, %r11;", (a, b, _) => (uint)((ulong)a * b >> 32) },
        { "mul.hi.s32 %r13, %r10, %r11;", (a, b, _) => (uint)((long)(int)a * (int)b >> 32) },
        { "mad.lo.u32 %r13, %r10, %r11, %r12;", (a, b, c) => a * b + c },
        { "mad.hi.s32 %r13, %r10, %r11, %r12;", (a, b, c) => (uint)((long)(int)a * (int)b >> 32) + c },
        { "div.u32 %r13, %r10, %r11;", (a, b, _) => b == 0 ? uint.MaxValue : a / b },
        { "div.s32 %r13, %r10, %r11;", (a, b, _) => b == 0 ? uint.MaxValue : (uint)((long)(int)a / (int)b) },
        { "rem.u32 %r13, %r10, %r11;", (a, b, _) => b == 0 ? uint.MaxValue : a % b },
        { "rem.s32 %r13, %r10, %r11;", (a, b, _) => b == 0 ? uint.MaxValue : (uint)((long)(int)a % (int)b) },
        { "min.s32 %r13, %r10, %r11;", (a, b, _) => (uint)Math.Min((int)a, (int)b) },
        { "min.u32 %r13, %r10, %r11;", (a, b, _) => Math.Min(a, b) },
        { "max.s32 %r13, %r10, %r11;", (a, b, _) => (uint)Math.Max((int)a, (int)b) },
        { "max.u32 %r13, %r10, %r11;", (a, b, _) => Math.Max(a, b) },
        { "abs.s32 %r13, %r10;", (a, _, _) => (int)a < 0 ? 0 - a : a },
        { "neg.s32 %r13, %r10;", (a, _, _) => 0 - a },
        { "and.b32 %r13, %r10, %r11;", (a, b, _) => a & b },
        { "or.b32 %r13, %r10, %r11;", (a, b, _) => a | b },
        { "xor.b32 %r13, %r10, %r11;", (a, b, _) => a ^ b },
        { "not.b32 %r13, %r10;", (a, _, _) => ~a },
        { "cnot.b32 %r13, %r10;", (a, _, _) => a == 0 ? 1u : 0 },
        { "shl.b32 %r13, %r10, %r11;", (a, b, _) => b > 31 ? 0 : a << (int)b },
        { "shr.u32 %r13, %r10, %r11;", (a, b, _) => b > 31 ? 0 : a >> (int)b },
        { "shr.s32 %r13, %r10, %r11;", (a, b, _) => (uint)((int)a >> (int)Math.Min(b, 31)) },
        { "popc.b32 %r13, %r10;", (a, _, _) => (uint)System.Numerics.BitOperations.PopCount(a) },
        { "clz.b32 %r13, %r10;", (a, _, _) => (uint)System.Numerics.BitOperations.LeadingZeroCount(a) },
        { "bfind.u32 %r13, %r10;", (a, _, _) => a == 0 ? uint.MaxValue : (uint)System.Numerics.BitOperations.Log2(a) },
        { "bfind.s32 %r13, %r10;", (a, _, _) => (int)a is 0 or -1 ? uint.MaxValue
            : (uint)System.Numerics.BitOperations.Log2((int)a < 0 ? ~a : a) },
        { "bfind.shiftamt.u32 %r13, %r10;", (a, _, _) => a == 0 ? uint.MaxValue : (uint)System.Numerics.BitOperations.LeadingZeroCount(a) },
        { "brev.b32 %r13, %r10;", (a, _, _) => Reverse(a) },
        { "bfe.u32 %r13, %r10, %r11, %r12;", (a, b, c) => Extract(a, b, c, signed: false) },
        { "bfe.s32 %r13, %r10, %r11, %r12;", (a, b, c) => Extract(a, b, c, signed: true) },
        { "bfi.b32 %r13, %r10, %r11, %r11, %r12;", (a, b, c) => Insert(a, b, b, c) },
        { "prmt.b32 %r13, %r10, %r11, %r12;", Permute },
        { "lop3.b32 %r13, %r10, %r11, %r12, 0xCA;", (a, b, c) => (a & b) | (~a & c) },
        { "lop3.b32 %r13, %r10, %r11, %r12, 0x96;", (a, b, c) => a ^ b ^ c },
        { "shf.l.wrap.b32 %r13, %r10, %r11, %r12;", (a, b, c) => (c & 31) == 0 ? b : b << (int)(c & 31) | a >> (int)(32 - (c & 31)) },
        { "shf.r.clamp.b32 %r13, %r10, %r11, %r12;", (a, b, c) => c >= 32 ? b : c == 0 ? a : b << (int)(32 - c) | a >> (int)c },
        { "dp4a.s32.s32 %r13, %r10, %r11, %r12;", (a, b, c) => Dot(a, b, c) },
        { "add.u16 %rs13, %rs10, %rs11;\n cvt.u32.u16 %r13, %rs13;", (a, b, _) => (ushort)(a + b) },
        { "mul.lo.s16 %rs13, %rs10, %rs11;\n cvt.u32.u16 %r13, %rs13;", (a, b, _) => (ushort)(a * b) },
        { "mul.wide.s16 %r13, %rs10, %rs11;", (a, b, _) => (uint)((short)a * (short)b) },
        { "shr.s16 %rs13, %rs10, %r11;\n cvt.u32.u16 %r13, %rs13;", (a, b, _) => (ushort)((short)a >> (int)Math.Min(b, 15)) },
        { "min.s16 %rs13, %rs10, %rs11;\n cvt.s32.s16 %r13, %rs13;", (a, b, _) => (uint)Math.Min((short)a, (short)b) },
        { "not.b16 %rs13, %rs10;\n cvt.u32.u16 %r13, %rs13;", (a, _, _) => (ushort)~a },
        { "mov.b32 {%rs13, %rs14}, %r10;\n mov.b32 %r13, {%rs14, %rs13};", (a, _, _) => a << 16 | a >> 16 },
        { "setp.lt.s32 %p1|%p2, %r10, %r11;\n selp.b32 %r13, 10, 20, %p1;\n @%p2 add.u32 %r13, %r13, 1;", (a, b, _) => (int)a < (int)b ? 10u
            : 21 },
        { "setp.hs.u32 %p1, %r10, %r11;\n selp.u32 %r13, 1, 0, %p1;", (a, b, _) => a >= b ? 1u : 0 },
        { "setp.ne.u32 %p3, %r12, 0;\n setp.eq.xor.s32 %p1|%p2, %r10, %r11, !%p3;\n selp.u32 %r13, 1, 0, %p1;\n @%p2 or.b32 %r13, %r13, 2;",
            (a, b, c) => ((a == b) ^ (c == 0) ? 1u : 0) | ((a != b) ^ (c == 0) ? 2u : 0) },
        { "set.gt.u32.s32 %r13, %r10, %r11;", (a, b, _) => (int)a > (int)b ? uint.MaxValue : 0 },
        { "add.cc.u32 %r20, %r10, %r11;\n addc.u32 %r13, %r12, 0;", (a, b, c) => c + (uint)((ulong)a + b >> 32) },
        { "sub.cc.u32 %r20, %r10, %r11;\n subc.u32 %r13, %r12, 0;", (a, b, c) => c - (a < b ? 1u : 0) },
    };

    [Theory]
    [MemberData(nameof(Words))]
    public void Word_instruction_gives_what_the_manual_says(string instruction, Func<uint, uint, uint, uint> expected)
    {
        var triples = (from a in Edges from b in Edges select (a, b, c: (a * 31 + b) % 47)).ToArray();
        uint[] first = [.. triples.Select(t => t.a)];
        uint[] second = [.. triples.Select(t => t.b)];
        uint[] third = [.. triples.Select(t => t.c)];
        uint[] actual = PtxTest.Map32(instruction, first, second, third);
        for (int i = 0; i < actual.Length; i++)
            Assert.True(expected(first[i], second[i], third[i]) == actual[i],
                $"{instruction} of 0x{first[i]:X}, 0x{second[i]:X}, 0x{third[i]:X}: 0x{actual[i]:X}, expected "
                    + $"0x{expected(first[i], second[i], third[i]):X}");
    }

    public static TheoryData<string, Func<ulong, ulong, ulong>> Longs { get; } = new()
    {
        { "add.u64 %rd13, %rd10, %rd11;", (a, b) => a + b },
        { "sub.s64 %rd13, %rd10, %rd11;", (a, b) => a - b },
        { "mul.lo.s64 %rd13, %rd10, %rd11;", (a, b) => a * b },
        { "mul.hi.u64 %rd13, %rd10, %rd11;", (a, b) => (ulong)((UInt128)a * b >> 64) },
        { "mul.hi.s64 %rd13, %rd10, %rd11;", (a, b) => (ulong)((Int128)(long)a * (long)b >> 64) },
        { "mul.wide.u32 %rd13, %r10, %r11;", (a, b) => (ulong)(uint)a * (uint)b },
        { "mul.wide.s32 %rd13, %r10, %r11;", (a, b) => (ulong)((long)(int)a * (int)b) },
        { "mad.wide.s32 %rd13, %r10, %r11, %rd10;", (a, b) => (ulong)((long)(int)a * (int)b) + a },
        { "mad.lo.s64 %rd13, %rd10, %rd11, %rd10;", (a, b) => a * b + a },
        { "div.s64 %rd13, %rd10, %rd11;", (a, b) => b == 0 ? ulong.MaxValue : b == ulong.MaxValue ? 0 - a : (ulong)((long)a / (long)b) },
        { "rem.u64 %rd13, %rd10, %rd11;", (a, b) => b == 0 ? ulong.MaxValue : a % b },
        { "min.s64 %rd13, %rd10, %rd11;", (a, b) => (ulong)Math.Min((long)a, (long)b) },
        { "max.u64 %rd13, %rd10, %rd11;", Math.Max },
        { "shl.b64 %rd13, %rd10, %r11;", (a, b) => (uint)b > 63 ? 0 : a << (int)b },
        { "shr.s64 %rd13, %rd10, %r11;", (a, b) => (ulong)((long)a >> (int)Math.Min((uint)b, 63)) },
        { "and.b64 %rd13, %rd10, %rd11;", (a, b) => a & b },
        { "popc.b64 %r13, %rd10;\n cvt.u64.u32 %rd13, %r13;", (a, _) => (ulong)System.Numerics.BitOperations.PopCount(a) },
        { "clz.b64 %r13, %rd10;\n cvt.u64.u32 %rd13, %r13;", (a, _) => (ulong)System.Numerics.BitOperations.LeadingZeroCount(a) },
        { "brev.b64 %rd13, %rd10;", (a, _) => (ulong)Reverse((uint)a) << 32 | Reverse((uint)(a >> 32)) },
        { "mov.b64 {%r13, %r14}, %rd10;\n mov.b64 %rd13, {%r14, %r13};", (a, _) => a << 32 | a >> 32 },
        { "setp.lt.s64 %p1, %rd10, %rd11;\n selp.b64 %rd13, %rd10, %rd11, %p1;", (a, b) => (long)a < (long)b ? a : b },
        { "add.cc.u64 %rd30, %rd10, %rd11;\n addc.u64 %rd13, 0, 0;", (a, b) => a + b < a ? 1UL : 0 },
    };

    [Theory]
    [MemberData(nameof(Longs))]
    public void Long_instruction_gives_what_the_manual_says(string instruction, Func<ulong, ulong, ulong> expected)
    {
        var pairs = (from a in Edges64 from b in Edges64 select (a, b)).ToArray();
        ulong[] first = [.. pairs.Select(p => p.a)];
        ulong[] second = [.. pairs.Select(p => p.b)];
        ulong[] actual = PtxTest.Map64(instruction, first, second);
        for (int i = 0; i < actual.Length; i++)
            Assert.True(expected(first[i], second[i]) == actual[i], $"{instruction} of 0x{first[i]:X}, 0x{second[i]:X}: 0x{actual[i]:X}");
    }

    private static uint Reverse(uint a)
    {
        uint result = 0;
        for (int i = 0; i < 32; i++)
            result |= (a >> i & 1) << (31 - i);
        return result;
    }

    /// <summary>bfe bit by bit, as the manual writes it.</summary>
    private static uint Extract(uint a, uint position, uint length, bool signed)
    {
        (int pos, int len) = ((int)(position & 255), (int)(length & 255));
        uint sign = !signed || len == 0 ? 0 : a >> Math.Min(pos + len - 1, 31) & 1;
        uint result = 0;
        for (int i = 0; i < 32; i++)
            result |= (i < len && pos + i <= 31 ? a >> (pos + i) & 1 : sign) << i;
        return result;
    }

    private static uint Insert(uint a, uint b, uint position, uint length)
    {
        (int pos, int len) = ((int)(position & 255), (int)(length & 255));
        for (int i = 0; i < len && pos + i <= 31; i++)
            b = b & ~(1u << (pos + i)) | (a >> i & 1) << (pos + i);
        return b;
    }

    private static uint Permute(uint a, uint b, uint c)
    {
        byte[] bytes = [.. BitConverter.GetBytes(a), .. BitConverter.GetBytes(b)];
        uint result = 0;
        for (int i = 0; i < 4; i++)
        {
            int selector = (int)(c >> (4 * i) & 15);
            byte value = bytes[selector & 7];
            result |= (uint)(selector < 8 ? value : value >= 128 ? 255 : 0) << (8 * i);
        }
        return result;
    }

    private static uint Dot(uint a, uint b, uint c)
    {
        byte[] x = BitConverter.GetBytes(a);
        byte[] y = BitConverter.GetBytes(b);
        for (int i = 0; i < 4; i++)
            c += (uint)((sbyte)x[i] * (sbyte)y[i]);
        return c;
    }
}
