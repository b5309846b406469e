using System.Reflection;
using System.Reflection.Emit;
using KernelScope.Cpu;
using KernelScope.Devices;
using KernelScope.Distributed;
using KernelScope.Evaluation;
using KernelScope.Hooks;
using KernelScope.Hub;
using KernelScope.Text;
using KernelScope.Training.Runs;

namespace KernelScope.Tests;

/// <summary>Who may use whom inside the library and its evaluation, read from its compiled code: bases, members, locals, and everything that an instruction names.</summary>
public class LayeringTests
{
    private const BindingFlags Everything =
        BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.Static | BindingFlags.Instance | BindingFlags.DeclaredOnly;

    /// <summary>From the bottom up; a namespace may use the lines below its own, and itself.</summary>
    private static readonly string[][] Layers =
    [
        ["KernelScope.Numerics"],
        ["KernelScope.Files"],
        ["KernelScope.Devices"],
        ["KernelScope.Devices.Reference", "KernelScope.Cpu.MachineCode", "KernelScope.Cpu.Panels"],
        ["KernelScope.Cpu"],
        ["KernelScope.Hooks"],
        ["KernelScope.Model"],
        ["KernelScope.Text"],
        ["KernelScope.Sae", "KernelScope.Generation", "KernelScope.Cpu.Packing"],
        ["KernelScope.Hub.Catalog"],
        ["KernelScope.Hub", "KernelScope.Attribution"],
        ["KernelScope.Evaluation"],
        ["KernelScope.Training"],
        ["KernelScope.Training.Runs"],
        ["KernelScope.Training.Suites"],
        ["KernelScope.Distributed"],
    ];

    private static readonly Assembly[] Assemblies =
        [typeof(Device).Assembly, typeof(GemmaTokenizer).Assembly, typeof(ActivationCache).Assembly, typeof(ProfilingDevice).Assembly,
        typeof(CpuDevice).Assembly, typeof(HubClient).Assembly, typeof(SaeEvaluation).Assembly, typeof(RunRows).Assembly,
        typeof(NatsRunQueue).Assembly];

    private static readonly OpCode[] OneByte = Codes(size: 1);
    private static readonly OpCode[] TwoBytes = Codes(size: 2);

    [Fact]
    public void No_namespace_uses_one_above_it()
    {
        SortedSet<string> wrong = [];
        foreach (Type type in AllTypes().Where(type => LayerOf(type) is not null))
        {
            foreach (Type used in UsedBy(type).Where(used => Assemblies.Contains(used.Assembly) && LayerOf(used) is not null))
            {
                if (used.Namespace != type.Namespace && LayerOf(used) >= LayerOf(type))
                    wrong.Add($"{Outermost(type)} uses {Outermost(used)}");
            }
        }

        Assert.Empty(wrong);
    }

    [Fact]
    public void Every_namespace_of_the_library_has_a_layer() =>
        Assert.Empty(AllTypes().Select(type => type.Namespace).Where(name => name is not null
        && name.StartsWith("KernelScope", StringComparison.Ordinal)).Distinct().Except(Layers.SelectMany(names => names)));

    [Fact]
    public void The_core_depends_on_nothing() => Assert.Empty(Foreign(typeof(Device)));

    /// <summary>Iced, an assembler in managed code, writes the one kernel for which .NET has no intrinsic.</summary>
    [Fact]
    public void The_cpu_device_knows_the_core_and_an_assembler() => Assert.Equal(["Iced", "KernelScope.Core"], Foreign(typeof(CpuDevice)));

    /// <summary>They were parts of the core once, and stay beside each other.</summary>
    [Theory]
    [InlineData(typeof(GemmaTokenizer))]
    [InlineData(typeof(ActivationCache))]
    [InlineData(typeof(ProfilingDevice))]
    public void What_lies_next_to_the_core_knows_only_the_core(Type member) => Assert.Equal(["KernelScope.Core"], Foreign(member));

    [Fact]
    public void The_hub_knows_the_core() => Assert.Equal(["KernelScope.Core"], Foreign(typeof(HubClient)));

    private static string[] Foreign(Type member) =>
        [.. member.Assembly.GetReferencedAssemblies().Select(name => name.Name!)
        .Where(name => !name.StartsWith("System", StringComparison.Ordinal)).Order(StringComparer.Ordinal)];

    /// <summary>The search sees calls, fields, locals and constructions, or the test above could not fail.</summary>
    [Fact]
    public void The_search_sees_what_a_method_body_names()
    {
        HashSet<Type> used = [.. UsedBy(typeof(Sample))];
        Assert.Superset(new HashSet<Type> { typeof(Mat), typeof(CodeList), typeof(WeightPart), typeof(FeatureEdit), typeof(Device),
            typeof(Constructed) }, used);
    }

    private sealed class Constructed;

#pragma warning disable CS0169, IDE0051 // Only its metadata is looked at.
    private sealed class Sample
    {
        private readonly List<Mat> _field = [];

        private static int Call(object o) => new CodeList().Rows + (o is WeightPart[]? 1 : 0) + typeof(FeatureEdit).Name.Length;

        private static Func<Device?, int> Nested() => device => device is null ? 0 : new Constructed().GetHashCode();
    }
#pragma warning restore CS0169, IDE0051

    private static IEnumerable<Type> AllTypes() => Assemblies.SelectMany(assembly => assembly.GetTypes());

    private static int? LayerOf(Type type)
    {
        int layer = Array.FindIndex(Layers, names => names.Contains(type.Namespace));
        return layer < 0 ? null : layer;
    }

    private static string? Outermost(Type type)
    {
        while (type.DeclaringType is not null)
            type = type.DeclaringType;
        return type.FullName;
    }

    private static IEnumerable<Type> UsedBy(Type type)
    {
        IEnumerable<Type?> used =
        [
            type.BaseType,
            .. type.GetInterfaces(),
            .. type.GetFields(Everything).Select(field => field.FieldType),
            .. type.GetNestedTypes(Everything).SelectMany(UsedBy),
            .. type.GetMembers(Everything).OfType<MethodBase>().SelectMany(UsedBy),
        ];
        return used.SelectMany(Parts).Distinct();
    }

    private static IEnumerable<Type?> UsedBy(MethodBase method)
    {
        IEnumerable<Type?> signature = [(method as MethodInfo)?.ReturnType, .. method.GetParameters()
            .Select(parameter => parameter.ParameterType)];
        MethodBody? body = method.GetMethodBody();
        return body is null ? signature : [.. signature, .. body.LocalVariables.Select(local => local.LocalType),
            .. body.ExceptionHandlingClauses.Select(CaughtBy), .. TokensOf(method, body).SelectMany(UsedBy)];
    }

    private static Type? CaughtBy(ExceptionHandlingClause clause) => clause.Flags == ExceptionHandlingClauseOptions.Clause
        ? clause.CatchType : null;

    private static IEnumerable<Type?> UsedBy(MemberInfo member) => member switch
    {
        Type type => [type],
        FieldInfo field => [field.DeclaringType, field.FieldType],
        MethodBase method =>
        [
            method.DeclaringType,
            (method as MethodInfo)?.ReturnType,
            .. method.GetParameters().Select(parameter => parameter.ParameterType),
            .. method.IsGenericMethod ? method.GetGenericArguments() : [],
        ],
        _ => [],
    };

    /// <summary>What the instructions of a body name.</summary>
    private static IEnumerable<MemberInfo> TokensOf(MethodBase method, MethodBody body)
    {
        byte[] il = body.GetILAsByteArray() ?? [];
        Type[]? typeArguments = method.DeclaringType is { IsGenericType: true } declaring ? declaring.GetGenericArguments() : null;
        Type[]? methodArguments = method.IsGenericMethod ? method.GetGenericArguments() : null;
        int at = 0;
        while (at < il.Length)
        {
            OpCode code = il[at] == 0xFE ? TwoBytes[il[at + 1]] : OneByte[il[at]];
            at += code.Size;
            if (code.OperandType is OperandType.InlineField or OperandType.InlineMethod or OperandType.InlineTok or OperandType.InlineType)
                yield return method.Module.ResolveMember(BitConverter.ToInt32(il, at), typeArguments, methodArguments)!;
            at += OperandSize(code.OperandType, il, at);
        }
    }

    private static int OperandSize(OperandType type, byte[] il, int at) => type switch
    {
        OperandType.InlineNone => 0,
        OperandType.ShortInlineBrTarget or OperandType.ShortInlineI or OperandType.ShortInlineVar => 1,
        OperandType.InlineVar => 2,
        OperandType.InlineI8 or OperandType.InlineR => 8,
        OperandType.InlineSwitch => 4 + (4 * BitConverter.ToInt32(il, at)),
        _ => 4,
    };

    /// <summary>A type without arrays, pointers and references, and its arguments.</summary>
    private static IEnumerable<Type> Parts(Type? type)
    {
        while (type is { HasElementType: true })
            type = type.GetElementType();
        if (type is null || type.IsGenericParameter)
            return [];
        return type.IsGenericType ? [type.GetGenericTypeDefinition(), .. type.GetGenericArguments().SelectMany(Parts)] : [type];
    }

    private static OpCode[] Codes(int size)
    {
        OpCode[] codes = new OpCode[256];
        foreach (FieldInfo field in typeof(OpCodes).GetFields(BindingFlags.Public | BindingFlags.Static))
        {
            OpCode code = (OpCode)field.GetValue(null)!;
            if (code.Size == size)
                codes[code.Value & 0xFF] = code;
        }

        return codes;
    }
}
