using KernelScope.PtxEmulator;

namespace KernelScope.Gpu.Tests.Emulator;

/// <summary>mma, ldmatrix and cp.async against the lane layouts of the PTX manual, written out here element by element.</summary>
public class MatrixTests
{

    /// <summary>The manual's row and column of element i of lane l, for 16-bit A of m16n8k16 and its relatives.</summary>
    private static (int Row, int Column) A16(int lane, int i) =>
        (lane / 4 + (i / 2 % 2 == 1 ? 8 : 0), lane % 4 * 2 + i % 2 + (i >= 4 ? 8 : 0));

    private static (int Row, int Column) B16(int lane, int i) => (lane % 4 * 2 + i % 2 + (i >= 2 ? 8 : 0), lane / 4);

    private static (int Row, int Column) A32(int lane, int i) => (lane / 4 + (i % 2 == 1 ? 8 : 0), lane % 4 + (i >= 2 ? 4 : 0));

    private static (int Row, int Column) B32(int lane, int i) => (lane % 4 + 4 * i, lane / 4);

    private static (int Row, int Column) C(int lane, int i) => (lane / 4 + (i >= 2 ? 8 : 0), lane % 4 * 2 + i % 2);

    [Theory]
    [InlineData("bf16", 16)]
    [InlineData("f16", 16)]
    [InlineData("bf16", 8)]
    [InlineData("f16", 8)]
    [InlineData("tf32", 8)]
    [InlineData("tf32", 4)]
    public void Mma_is_the_matrix_product_in_the_documented_layout(string type, int depth)
    {
        bool tf32 = type == "tf32";
        int elements = tf32 ? 1 : 2;
        int left = 16 * depth / 32 / elements;
        int right = left / 2;
        var random = new Random(7);
        // Small integers: products and sums are exact, so a wrong layout cannot hide in rounding.
        double[,] a = Fill(16, depth, random);
        double[,] b = Fill(depth, 8, random);
        double[,] c = Fill(16, 8, random);
        var words = new uint[32 * (left + right + 4)];
        for (int lane = 0; lane < 32; lane++)
        {
            Span<uint> own = words.AsSpan(lane * (left + right + 4));
            for (int i = 0; i < left * elements; i++)
                Put(own, i, tf32 ? At(a, A32(lane, i)) : At(a, A16(lane, i)), type);
            for (int i = 0; i < right * elements; i++)
                Put(own[left..], i, tf32 ? At(b, B32(lane, i)) : At(b, B16(lane, i)), type);
            for (int i = 0; i < 4; i++)
                own[left + right + i] = BitConverter.SingleToUInt32Bits((float)At(c, C(lane, i)));
        }
        string registers = string.Concat(Enumerable.Range(0, left + right + 4)
            .Select(i => $"    ld.global.b32 %r{20 + i}, [%rd21+{4 * i}];\n"));
        string List(int first, int count) => "{" + string.Join(", ", Enumerable.Range(first, count).Select(i => $"%r{i}")) + "}";
        string body = $"""
                mul.wide.u32 %rd20, %r2, {4 * (left + right + 4)};
                add.u64 %rd21, %rd1, %rd20;
            {registers}
                mma.sync.aligned.m16n8k{depth}.row.col.f32.{type}.{type}.f32 {List(40, 4)}, {List(20, left)}, {List(20 + left, right)}, {List(20 + left + right, 4)};
                mul.wide.u32 %rd22, %r2, 16;
                add.u64 %rd22, %rd3, %rd22;
                st.global.v4.b32 [%rd22], {List(40, 4)};
            """;
        using var test = new PtxTest();
        ulong output = test.Gpu.Allocate(512, "d");
        test.Run(PtxTest.Text(body), test.Upload(words, "fragments"), 0, output);
        float[] d = test.Download<float>(output, 128);
        for (int lane = 0; lane < 32; lane++)
            for (int i = 0; i < 4; i++)
            {
                (int row, int column) = C(lane, i);
                double expected = c[row, column];
                for (int k = 0; k < depth; k++)
                    expected += a[row, k] * b[k, column];
                Assert.Equal(expected, d[lane * 4 + i]);
            }
    }

    [Fact]
    public void Mma_cuts_its_sums_unless_told_otherwise()
    {
        // 1 + 1.5·2⁻²⁴: to the nearest it would round up.
        Assert.Equal(1f, OneSum("bf16", 16, MatrixModel.Ampere, [0x3F80, 0x3980], [0x3F80, 0x39C0], 0));
        Assert.Equal(1f + MathF.Pow(2, -23), OneSum("bf16", 16, MatrixModel.Nearest, [0x3F80, 0x3980], [0x3F80, 0x39C0], 0));
    }

    [Fact]
    public void A_generation_shows_in_how_many_bits_are_kept_below_the_largest_term()
    {
        // 1 + 2⁻²⁵ + 2⁻²⁵ − 1: Ampere cuts below 2⁻²⁴, Hopper below 2⁻²⁵.
        uint[] a = [0x3F80, 0x3380, 0x3380], b = [0x3F80, 0x3F00, 0x3F00];
        Assert.Equal(0f, OneSum("bf16", 16, MatrixModel.Ampere, a, b, -1));
        Assert.Equal(MathF.Pow(2, -24), OneSum("bf16", 16, MatrixModel.Hopper, a, b, -1));
    }

    /// <summary>Sums that tensor cores of the two generations gave, recorded by others: the emulator gives the same bits.</summary>
    [Theory]
    [InlineData("A100", MatrixModel.Ampere)]
    [InlineData("H100", MatrixModel.Hopper)]
    public void Sums_are_those_that_hardware_gave(string gpu, MatrixModel model)
    {
        string[][] lines = [.. File.ReadLines(KernelScope.Tests.Fixtures.Path("tensor_cores", "results.txt")).Select(l => l.Split(' '))
            .Where(l => l[0] == gpu)];
        Assert.Equal(900, lines.Length);
        foreach (string[] line in lines)
        {
            string type = line[1];
            int digits = type == "tf32" ? 8 : 4;
            uint[] a = Values(line[2], digits), b = Values(line[3], digits);
            float d = OneSum(type, a.Length, model, a, b, BitConverter.UInt32BitsToSingle(Convert.ToUInt32(line[4], 16)));
            Assert.True(BitConverter.SingleToUInt32Bits(d) == Convert.ToUInt32(line[5], 16),
                $"{string.Join(' ', line)}: {BitConverter.SingleToUInt32Bits(d):x8}");
        }

        static uint[] Values(string hex, int digits) =>
            [.. Enumerable.Range(0, hex.Length / digits).Select(i => Convert.ToUInt32(hex.Substring(i * digits, digits), 16))];
    }

    [Theory]
    [InlineData(1, false)]
    [InlineData(2, false)]
    [InlineData(4, false)]
    [InlineData(1, true)]
    [InlineData(4, true)]
    public void Ldmatrix_hands_out_rows_as_documented(int count, bool transposed)
    {
        // Row r of the tile holds 100·r + column; rows are 16 bytes, 80 bytes apart.
        const string Body = """
                mov.u32 %r20, tile;
                mad.lo.u32 %r20, %r2, 80, %r20;
                mul.lo.u32 %r21, %r2, 100;
                cvt.u16.u32 %rs1, %r21;
                mov.b16 %rs2, 1;
                st.shared.u16 [%r20], %rs1;
                add.u16 %rs1, %rs1, %rs2;
                st.shared.u16 [%r20+2], %rs1;
                add.u16 %rs1, %rs1, %rs2;
                st.shared.u16 [%r20+4], %rs1;
                add.u16 %rs1, %rs1, %rs2;
                st.shared.u16 [%r20+6], %rs1;
                add.u16 %rs1, %rs1, %rs2;
                st.shared.u16 [%r20+8], %rs1;
                add.u16 %rs1, %rs1, %rs2;
                st.shared.u16 [%r20+10], %rs1;
                add.u16 %rs1, %rs1, %rs2;
                st.shared.u16 [%r20+12], %rs1;
                add.u16 %rs1, %rs1, %rs2;
                st.shared.u16 [%r20+14], %rs1;
                bar.warp.sync 0xffffffff;
                mov.u32 %r30, 0;
                mov.u32 %r31, 0;
                mov.u32 %r32, 0;
                mov.u32 %r33, 0;
            """;
        string targets = string.Join(", ", Enumerable.Range(30, count).Select(i => $"%r{i}"));
        string body = Body + $$"""

                ldmatrix.sync.aligned.m8n8.x{{count}}{{(transposed ? ".trans" : "")}}.shared.b16 {{{targets}}}, [%r20];
                mul.wide.u32 %rd22, %r2, 16;
                add.u64 %rd22, %rd3, %rd22;
                st.global.v4.b32 [%rd22], {%r30, %r31, %r32, %r33};
            """;
        using var test = new PtxTest();
        ulong output = test.Gpu.Allocate(512, "d");
        LaunchResult result = test.Run(PtxTest.Text(body, ".shared .align 16 .b8 tile[2560];"), 0, 0, output);
        uint[] values = test.Download<uint>(output, 128);
        for (int lane = 0; lane < 32; lane++)
            for (int matrix = 0; matrix < count; matrix++)
                for (int element = 0; element < 2; element++)
                {
                    int major = lane / 4;
                    int minor = lane % 4 * 2 + element;
                    int expected = transposed ? 100 * (8 * matrix + minor) + major : 100 * (8 * matrix + major) + minor;
                    Assert.Equal(expected, (int)(values[lane * 4 + matrix] >> (16 * element) & 0xFFFF));
                }
        // Rows 80 bytes apart fall on different banks: one wavefront a matrix.
        InstructionCount load = result.Instructions.Single(i => i.Class == InstructionClass.MatrixLoad);
        Assert.Equal(new SharedTraffic(1, count, 0), load.SharedLoad);
    }

    [Fact]
    public void Cp_async_copies_and_fills_with_zeros()
    {
        using var test = new PtxTest { Block = new Dim3(32) };
        ulong source = test.Upload(Enumerable.Range(0, 512).Select(i => (byte)(i + 1)).ToArray(), "source");
        ulong output = test.Gpu.Allocate(512, "d");
        test.Run(PtxTest.Text("""
                mov.u32 %r20, tile;
                shl.b32 %r21, %r2, 4;
                add.u32 %r20, %r20, %r21;
                mul.wide.u32 %rd20, %r2, 16;
                add.u64 %rd21, %rd1, %rd20;
                min.u32 %r22, %r2, 16;
                cp.async.cg.shared.global [%r20], [%rd21], 16, %r22;
                cp.async.commit_group;
                cp.async.wait_group 0;
                ld.shared.v4.u32 {%r30, %r31, %r32, %r33}, [%r20];
                add.u64 %rd22, %rd3, %rd20;
                st.global.v4.u32 [%rd22], {%r30, %r31, %r32, %r33};
            """, ".shared .align 16 .b8 tile[512];"), source, 0, output);
        byte[] values = test.Download<byte>(output, 512);
        for (int i = 0; i < 512; i++)
            Assert.Equal(i % 16 < Math.Min(i / 16, 16) ? (byte)(i + 1) : 0, values[i]);
    }

    [Fact]
    public void Cp_async_pipeline_of_three_stages_runs_clean_and_right()
    {
        using var test = new PtxTest { Block = new Dim3(64) };
        ulong source = test.Upload(Enumerable.Range(0, 64 * 8).ToArray(), "source");
        ulong output = test.Gpu.Allocate(256, "d");
        test.Run(PtxTest.Text("""
                shl.b32 %r21, %r2, 2;
                xor.b32 %r22, %r21, 252;
                mov.u32 %r20, tile;
                mov.u64 %rd10, %rd4;
                add.u32 %r23, %r20, %r21;
                cp.async.ca.shared.global [%r23], [%rd10], 4;
                cp.async.commit_group;
                cp.async.ca.shared.global [%r23+256], [%rd10+256], 4;
                cp.async.commit_group;
                mov.u32 %r10, 0;
                mov.u32 %r11, 0;
                mov.u32 %r12, 0;
                mov.u32 %r13, 512;
                add.u64 %rd10, %rd10, 512;
                LOOP:
                cp.async.wait_group 1;
                bar.sync 0;
                add.u32 %r24, %r20, %r22;
                add.u32 %r24, %r24, %r12;
                ld.shared.u32 %r25, [%r24];
                add.u32 %r10, %r10, %r25;
                setp.ge.u32 %p1, %r11, 6;
                @%p1 bra SKIP;
                add.u32 %r26, %r23, %r13;
                cp.async.ca.shared.global [%r26], [%rd10], 4;
                SKIP:
                cp.async.commit_group;
                add.u64 %rd10, %rd10, 256;
                add.u32 %r12, %r12, 256;
                setp.eq.u32 %p2, %r12, 768;
                selp.u32 %r12, 0, %r12, %p2;
                add.u32 %r13, %r13, 256;
                setp.eq.u32 %p2, %r13, 768;
                selp.u32 %r13, 0, %r13, %p2;
                add.u32 %r11, %r11, 1;
                setp.lt.u32 %p3, %r11, 8;
                @%p3 bra LOOP;
                st.global.u32 [%rd6], %r10;
            """, ".shared .align 16 .b8 tile[768];"), source, 0, output);
        int[] values = test.Download<int>(output, 64);
        for (int t = 0; t < 64; t++)
            Assert.Equal(Enumerable.Range(0, 8).Sum(s => s * 64 + (63 - t)), values[t]);
    }

    /// <summary>Row 0, column 0 of an mma whose first row of A and first column of B are given, bits in their format.</summary>
    private static float OneSum(string type, int depth, MatrixModel model, uint[] a, uint[] b, float c)
    {
        int pairs = type == "tf32" ? 1 : 2, left = 16 * depth / 32 / pairs, right = left / 2;
        using var test = new PtxTest { Options = new LaunchOptions { MatrixModel = model } };
        // Lanes 0 to 3 hold row 0 of A, and column 0 of B.
        uint[] words = new uint[32 * (left + right)];
        for (int k = 0; k < a.Length; k++)
        {
            int lane = k / pairs % 4, piece = k / pairs / 4, shift = 16 * (k % pairs);
            words[(lane * (left + right)) + (2 * piece)] |= a[k] << shift;
            words[(lane * (left + right)) + left + piece] |= b[k] << shift;
        }

        string List(int first, int count) => "{" + string.Join(", ", Enumerable.Range(first, count).Select(i => $"%r{i}")) + "}";
        ulong output = test.Gpu.Allocate(128, "d");
        test.Run(PtxTest.Text($"""
                mul.wide.u32 %rd20, %r2, {4 * (left + right)};
                add.u64 %rd21, %rd1, %rd20;
            {string.Concat(Enumerable.Range(0, left + right).Select(i => $"    ld.global.b32 %r{20 + i}, [%rd21+{4 * i}];\n"))}
                mov.b32 %f1, 0x{BitConverter.SingleToUInt32Bits(c):X8};
                mma.sync.aligned.m16n8k{depth}.row.col.f32.{type}.{type}.f32 {"{%f2, %f3, %f4, %f5}"}, {List(20, left)}, {List(20 + left, right)}, {"{%f1, %f1, %f1, %f1}"};
                st.global.f32 [%rd6], %f2;
            """), test.Upload(words, "fragments"), 0, output);
        return test.Download<float>(output, 1)[0];
    }

    private static double[,] Fill(int rows, int columns, Random random)
    {
        var values = new double[rows, columns];
        for (int r = 0; r < rows; r++)
            for (int c = 0; c < columns; c++)
                values[r, c] = random.Next(-8, 9);
        return values;
    }

    private static double At(double[,] matrix, (int Row, int Column) place) => matrix[place.Row, place.Column];

    private static void Put(Span<uint> registers, int i, double value, string type)
    {
        uint single = BitConverter.SingleToUInt32Bits((float)value);
        if (type == "tf32")
            registers[i] = single;
        else
            registers[i / 2] |= (type == "bf16" ? single >> 16 : BitConverter.HalfToUInt16Bits((Half)value)) << (16 * (i % 2));
    }
}
