using KernelScope.PtxEmulator;
using KernelScope.PtxRun;

const string Usage = """
    ptxrun FILE                            lists the kernels of a PTX file
    ptxrun FILE KERNEL [options] ARGUMENT… runs one in the emulator and prints what it did
    ptxrun model [--gpu NAME] [--position N] [--kv f32|bf16] [--sequences 1|8] [--ptx FOLDER]
                                           estimates a decode step of Gemma 2 2B on H100, H200, A100 and 4090, of one GPU kernel by kernel (folder: kernels/ptx)
    ptxrun model --rows N [--gpu NAME]     estimates the products of a prefill of N tokens, and an SAE's encoder
    Options of a run:
      --grid X[,Y[,Z]]  --block X[,Y[,Z]]  extents (1)
      --shared BYTES                       dynamic shared memory
      --unchecked                          no race and initialisation checks
      --lines                              counters of every instruction
    An argument is one of, in the order of the kernel's parameters:
      i32:N  i64:N  f32:X                  a number
      buf:TYPE:COUNT[:zero|ramp|random|none]   address of a buffer (TYPE: f32, i32, u16, u8)
      view:TYPE:COUNT[:…]                  address and length, as ILGPU passes an ArrayView
    """;

try
{
    if (args.Length == 0 || args[0] is "-h" or "--help")
    {
        Console.WriteLine(Usage);
        return args.Length == 0 ? 2 : 0;
    }
    if (args[0] == "model")
    {
        string Value(string name, string otherwise) => Array.IndexOf(args, name) is int at and > 0 && at + 1 < args.Length ? args[at + 1]
            : otherwise;
        string[] options = ["--gpu", "--position", "--kv", "--ptx", "--rows", "--sequences"];
        if (args.Length % 2 == 0 || args.Where((_, i) => i % 2 == 1).Except(options).Any()
            || !int.TryParse(Value("--sequences", "1"), out int sequences) || sequences is not (1 or (>= 5 and <= 8))
            || !int.TryParse(Value("--rows", "0"), out int rows) || rows is < 0 or > 8192
            || !int.TryParse(Value("--position", "1024"), out int position) || position is < 0 or > 8191
            || Value("--kv", "f32") is not ("f32" or "bf16"))
            throw new UsageException("model takes --gpu NAME, --position 0 to 8191, --kv f32 or bf16, --sequences 1 or 5 to 8, " +
                "--ptx FOLDER, and --rows 1 to 8192.");
        if (rows > 0)
        {
            ManyRows.Print(Value("--gpu", ""), rows);
            return 0;
        }

        Model.Print(Value("--ptx", Path.Combine("kernels", "ptx")), Value("--gpu", ""), position, Value("--kv", "f32") == "bf16" ? 2 : 4,
            sequences);
        return 0;
    }

    PtxModule module = PtxModule.Parse(File.ReadAllText(args[0]), Path.GetFileName(args[0]));
    if (args.Length == 1)
        Report.Kernels(module);
    else
        new Run(module.Kernel(args[1])).Execute(args.AsSpan(2));
    return 0;
}
catch (UsageException error)
{
    Console.Error.WriteLine(error.Message);
    return 2;
}
catch (Exception error) when (error is EmulatorFault or PtxSyntaxException or ArgumentException
    or IOException or UnauthorizedAccessException or InsufficientMemoryException)
{
    Console.Error.WriteLine(error.Message);
    return 1;
}
